"""What a config says, however it is written."""

import json
import math
from pathlib import Path

import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from jaxmeta.runs.config import build_metrics, build_objective, build_optimizer, complete

NEEDED = {
    "data": {"make": "jaxmeta.data.glyphs"},
    "model": {"make": "jaxmeta.nn.mlp", "outputs": 5},
    "loss": {"function": "jaxmeta.losses.cross_entropy"},
    "metrics": {"accuracy": {"function": "jaxmeta.losses.accuracy"}},
    "ways": 5,
    "shots": 1,
    "queries": 15,
}


def test_the_first_metric_and_the_first_evaluation_stay_the_first():
    config, metric = ConfigDict(NEEDED), NEEDED["metrics"]["accuracy"]
    config.metrics = ConfigDict({"z": metric, "a": metric}, sort_keys=False)
    config.evaluations = ConfigDict({"trained": {}, "floor": {}}, sort_keys=False)
    whole = complete(config)
    assert list(whole["metrics"]) == ["z", "a"]
    assert list(whole["evaluations"]) == ["trained", "floor"]
    plain = {**NEEDED, "metrics": {"z": metric, "a": metric}}
    assert list(complete(plain)["metrics"]) == ["z", "a"]


def test_what_a_sweep_has_at_hand_becomes_plain():
    rates = np.logspace(-2, 0, 3).astype(np.float32)
    optimizer = {"make": "optax.sgd", "learning_rate": rates[0]}
    source = {"workdir": Path("runs/first")}
    whole = complete({**NEEDED, "seed": np.int64(3), "optimizer": optimizer, "init_from": source})
    assert json.loads(json.dumps(whole)) == whole
    assert (whole["seed"], whole["init_from"]) == (3, {"workdir": "runs/first"})


def test_references_are_resolved():
    config = ConfigDict(NEEDED)
    config.sample = ConfigDict({"ways": config.get_oneway_ref("ways")})
    config.optimizer = ConfigDict({"make": "optax.chain", "args": [ConfigDict({"make": "f"})]})
    config.ways = 7
    whole = complete(config)
    assert whole["sample"] == {"ways": 7}
    assert type(whole["optimizer"]["args"][0]) is dict


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"metrics": None}, "metrics"),
        ({"learners": {}}, "learner"),
        ({"evaluation": {"evry": 500}}, "every"),
        ({"evaluations": {}}, "evaluations"),
        ({"evaluations": {"trained": {"metric": {}}}}, "metrics"),
        ({"steps": -1}, "steps"),
        ({"evaluation": {"every": 75}}, "log_every"),
        ({"evaluation": {"every": "50"}}, "every is '50'.*log_every"),
        ({"evaluation": 5}, "config.evaluation is 5.*fields"),
        ({"evaluations": ["trained"]}, r"config.evaluations is \['trained'\].*fields"),
        ({"evaluations": {"trained": None}}, "config.evaluations.trained is None.*fields"),
        ({"evaluations": {"trained": {"metrics": {}}}}, "evaluations.trained.metrics is empty"),
        ({"metrics": {}}, "config.metrics is empty"),
        ({"metrics": NEEDED["metrics"]["accuracy"]}, "config.metrics.function is 'jaxmeta"),
        ({"seed": "a"}, "config.seed is 'a'.*whole number"),
        ({"ways": "3"}, "config.ways is '3'.*whole number"),
        ({"optimizer": "adam"}, "config.optimizer is 'adam'.*'make': 'optax.adam'"),
        ({"optimizer": optax.adam(1e-3)}, "config.optimizer is Gradient.*'make': 'optax.adam'"),
        ({"loss": "cross_entropy"}, "config.loss is 'cross_entropy'.*'function': 'jaxmeta"),
        ({"learner": "maml"}, "config.learner is 'maml'.*'make': 'jaxmeta.learners.maml'"),
        ({"objective": {}}, "config.objective is {}.*'make': 'jaxmeta.objectives"),
        ({"estimator": "pcgrad"}, "config.estimator is 'pcgrad'.*'make': 'jaxmeta.gradients"),
        ({"rates": {"model": "0"}}, r"config.rates\['model'\] is '0'.*number"),
        ({"rates": {"model": -1.0}}, r"config.rates\['model'\] is -1.0.*0 to freeze"),
        ({"rates": {"model": math.nan}}, "config.rates.model is nan.*finite"),
        ({"init_from": "runs/first"}, "config.init_from is 'runs/first'.*fields"),
        ({"sample": {"batches": 8, "shts": 5}}, "config.sample has no field 'shts'.*shots"),
        ({"sample": {"make": "f", "sample": {"shts": 5}}}, "config.sample.sample has no.*shots"),
        ({"sample": {"batches": 0}}, "config.sample.batches is 0.*1 or more"),
    ],
)
def test_what_is_wrong_is_named(changes, names):
    config = {**NEEDED, **changes}
    config = {field: value for field, value in config.items() if value is not None}
    with pytest.raises(ValueError, match=names):
        complete(config)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"model": {"make": "jaxmeta.data.crop_and_mirror", "padding": 1}}, "model.*no Model"),
        ({"objective": {"make": "jaxmeta.nn.mlp", "outputs": 2}}, "objective.*no Objective"),
        ({"optimizer": {"make": "optax.constant_schedule", "value": 0.1}}, "optimizer.*no Grad"),
        ({"optimizer": {"make": "optax.chain", "args": "adam"}}, "list as 'args'.*brackets"),
        ({"metrics": {"a": {"make": "jaxmeta.losses.accuracy"}}}, "metrics.a.*'function'"),
    ],
)
def test_what_makes_something_else_is_named(changes, names):
    config = complete(
        {**NEEDED, "learner": {"make": "jaxmeta.learners.maml", "ways": 5}, **changes}
    )
    with pytest.raises(ValueError, match=names):
        _ = build_metrics(config), build_objective(config), build_optimizer(config)
