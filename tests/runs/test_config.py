"""What a config says, however it is written."""

import pytest
from ml_collections import ConfigDict

from jaxmeta.runs.config import complete

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
    config = ConfigDict(NEEDED)
    config.metrics = ConfigDict({"z": {}, "a": {}}, sort_keys=False)
    config.evaluations = ConfigDict({"trained": {}, "floor": {}}, sort_keys=False)
    whole = complete(config)
    assert list(whole["metrics"]) == ["z", "a"]
    assert list(whole["evaluations"]) == ["trained", "floor"]
    assert list(complete({**NEEDED, "metrics": {"z": {}, "a": {}}})["metrics"]) == ["z", "a"]


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
    ],
)
def test_what_is_wrong_is_named(changes, names):
    config = {**NEEDED, **changes}
    config = {field: value for field, value in config.items() if value is not None}
    with pytest.raises(ValueError, match=names):
        complete(config)
