"""Runs from Python: several in one process, one from another, and what a user brings along."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxmeta.data import array_source, mixture, paired
from jaxmeta.runs import prepare, read_params, restore, run
from jaxmeta.runs.tasks import training_sampler
from jaxmeta.runs.workdir import read_shapes
from jaxmeta.types import Objective, Report, Source
from tests.runs.conftest import CONFIG

QUICK = {
    **CONFIG,
    "steps": 4,
    "log_every": 2,
    "meta_batch": 2,
    "evaluation": {"every": 2, "validation_episodes": 2, "episodes": 2},
}
CLIPPED = {
    "make": "optax.chain",
    "args": [
        {"make": "optax.clip_by_global_norm", "max_norm": 1.0},
        {
            "make": "optax.sgd",
            "learning_rate": {
                "make": "optax.warmup_constant_schedule",
                "init_value": 0.0,
                "peak_value": 0.5,
                "warmup_steps": 2,
            },
        },
    ],
}


class Tracker:
    def __init__(self):
        self.rows = []

    def write(self, step, metrics):
        self.rows.append((step, dict(metrics)))


def test_several_runs_in_one_process_each_with_its_own_writer(tmp_path):
    results, trackers = {}, {name: Tracker() for name in ("one", "two", "again")}
    for name, seed, folder in (("one", 0, "one"), ("two", 1, "two"), ("again", 0, "one")):
        results[name] = run({**QUICK, "seed": seed}, tmp_path / folder, writers=[trackers[name]])
    assert results["again"] == results["one"]
    assert results["two"]["evaluations"] != results["one"]["evaluations"]
    assert trackers["again"].rows == []
    for name in ("one", "two"):
        rows = trackers[name].rows
        assert [step for step, _ in rows] == [2, 2, 4, 4]
        assert {"train/loss", "train/outer_gradient_norm"} < rows[0][1].keys()
        assert rows[1][1].keys() == {"validation/error", "validation/error_ci95"}
        assert not (tmp_path / name / "metrics.jsonl").exists()


@pytest.mark.slow
def test_a_run_starts_from_another_ones_parameters_and_freezes_a_part(tmp_path, capsys):
    run(QUICK, tmp_path / "first", writers=[])
    before, _ = read_params(tmp_path / "first")
    source = {"workdir": str(tmp_path / "first"), "take": "model", "at": "model"}
    second = {**QUICK, "init_from": source, "rates": {"model/layer0": 0.0}, "optimizer": CLIPPED}
    run({**second, "seed": 1, "steps": 3}, tmp_path / "second", writers=[])
    assert f"step 4 of '{tmp_path}/first'" in capsys.readouterr().err
    after, _ = read_params(tmp_path / "second")
    layers = [params["model"]["layer0"]["kernel"] for params in (before, after)]
    np.testing.assert_array_equal(*layers)
    moved = after["model"]["head"]["bias"] - before["model"]["head"]["bias"]
    assert 0 < np.linalg.norm(moved) < 0.25 + 0.5 + 1e-6  # the rates, of clipped gradients

    # An optimizer that keeps where it began begins with those parameters.
    averaging = {"make": "optax.contrib.schedule_free_sgd", "learning_rate": 0.1}
    third = prepare({**QUICK, "init_from": source, "optimizer": averaging}, tmp_path / "third")
    jax.tree.map(
        np.testing.assert_array_equal, third.train_state.optimizer.z, third.train_state.params
    )
    np.testing.assert_array_equal(third.train_state.params["model"]["layer0"]["kernel"], layers[0])

    # And a run that has a checkpoint needs the other one no longer.
    shutil.rmtree(tmp_path / "first")
    run({**second, "seed": 1, "steps": 3}, tmp_path / "second", writers=[])


def two_domains():
    """Sources of two data sets side by side, evaluated on the second."""
    rng, labels = np.random.default_rng(0), np.arange(24) % 4
    near, far = (
        array_source(rng.normal(size=(24, 3)) + shift * labels[:, None], labels) for shift in (1, 3)
    )
    both = Source({"near": near.data, "far": far.data}, episodes=None)
    samplers = {"near": near.batches(4), "far": far.batches(6)}
    return {"train": both, "valid": far, "test": far}, samplers


def side_by_side():
    return two_domains()[0]


def of_both(source, scale):
    sample = paired(two_domains()[1])
    return lambda data, key: {"scale": scale, **sample(data, key)}


def aligned(model):
    """The embeddings of two domains are to have one mean."""

    def loss(params, state, task, key):
        means = [
            model.apply(params["net"]["model"], state, task[name].x)[0].mean(axis=0)
            for name in ("near", "far")
        ]
        return task["scale"] * ((means[0] - means[1]) ** 2).sum(), Report()

    def init(key, task):
        params, state = model.init(key, task["near"].x)
        return {"net": {"model": params}}, state

    return Objective(init, loss)


MINE = {
    **QUICK,
    "data": {"make": f"{__name__}.side_by_side"},
    "sample": {"make": f"{__name__}.of_both", "scale": 2.0},
    "ways": 3,
    "shots": 1,
    "model": {"make": "jaxmeta.nn.mlp", "outputs": 3, "hidden": [4]},
    "learner": None,
    "loss": {"function": "jaxmeta.losses.cross_entropy"},
    "metrics": {"accuracy": {"function": "jaxmeta.losses.accuracy"}},
    "higher_is_better": True,
    "objective": {"make": f"{__name__}.aligned"},
    "optimizer": {"make": "optax.sgd", "learning_rate": 0.02},
    "steps": 20,
    "evaluation": {**QUICK["evaluation"], "every": 20},
    "evaluations": {
        "means": {
            "learner": {"make": "jaxmeta.learners.prototypical", "ways": 3},
            "params": "net",
        }
    },
}


def test_any_data_sampler_and_objective_and_a_learner_that_only_is_evaluated(tmp_path):
    tracker, config = Tracker(), MINE
    unnamed = {"means": {**config["evaluations"]["means"], "params": ""}}
    with pytest.raises(ValueError, match=r"evaluations.means finds no 'model'.* set .*params"):
        run({**config, "evaluations": unnamed}, tmp_path / "run")
    result = run(config, tmp_path / "run", writers=[tracker])
    losses = [row["train/loss"] for _, row in tracker.rows if "train/loss" in row]
    assert losses[-1] < losses[0] / 2
    assert result["evaluations"]["means"]["learner"] == "prototypical"
    params = restore(tmp_path / "run", trust=(__name__,)).params
    assert params.keys() == read_params(tmp_path / "run")[0]["net"].keys()


def four_kinds():
    near = two_domains()[0]["valid"]
    return dict.fromkeys(("train", "valid", "test"), near)


def test_tasks_are_made_of_single_examples_without_a_label(tmp_path):
    learner = {"make": "jaxmeta.learners.prototypical", "ways": 6}
    fewer = {"trained": {"learner": {"ways": 3}}}
    data, sample = {"make": f"{__name__}.four_kinds"}, {"instances": True, "ways": 6}
    config = {**MINE, "data": data, "sample": sample, "learner": learner, "evaluations": fewer}
    config["objective"] = {"make": "jaxmeta.objectives.episodic"}
    prepared = prepare(config, tmp_path / "run")
    assert read_shapes(tmp_path / "run").task.support.x.shape == (6, 3)
    draw = training_sampler(four_kinds()["train"], prepared.config)
    support, query = draw(prepared.sources["train"].data, jax.random.key(0))
    np.testing.assert_array_equal(np.repeat(support.x, 3, axis=0), query.x)
    with pytest.raises(ValueError, match=r"no field 'shts'.*shots"):
        prepare({**config, "sample": {**sample, "shts": 2}}, tmp_path / "other")
    sinusoids = {"data": {"make": "jaxmeta.data.sinusoid"}, "sample": {"instances": True}}
    with pytest.raises(ValueError, match=r"no fixed examples.*config.sample.instances out"):
        prepare({**QUICK, **sinusoids}, tmp_path / "other")


def one_of_both(source):
    near, far = (two_domains()[0][name] for name in ("valid", "test"))
    sample = mixture([near.batches(4), far.batches(4)])
    return lambda data, key: sample((data["near"], data["far"]), key)


def telling(model):
    """Which source a batch comes from."""

    def init(key, drawn):
        params, state = model.init(key, drawn.task.x)
        return {"net": {"model": params}}, state

    def loss(params, state, drawn, key):
        outputs, _ = model.apply(params["net"]["model"], state, drawn.task.x)
        return (outputs.mean() - drawn.source.astype(outputs.dtype)) ** 2, Report()

    return Objective(init, loss)


def test_a_mixture_is_trained_on_and_restored(tmp_path):
    sample, objective = ({"make": f"{__name__}.{name}"} for name in ("one_of_both", "telling"))
    run({**MINE, "sample": sample, "objective": objective, "steps": 2}, tmp_path, writers=[])
    assert restore(tmp_path, trust=(__name__,)).params.keys() == {"model"}


INTERRUPTED = """
import os, signal
from jaxmeta.runs import Stopped, run
from tests.runs.test_from_python import QUICK

# Also where the tests run in the background of a shell, which ignores it.
signal.signal(signal.SIGINT, signal.default_int_handler)

class Twice:
    def write(self, step, metrics):
        os.kill(os.getpid(), signal.SIGINT)

try:
    run(QUICK, {folder!r}, writers=[Twice(), Twice()])
except KeyboardInterrupt:
    print("the notebook goes on")
"""


def test_a_second_interrupt_does_not_end_the_interpreter(tmp_path):
    program = INTERRUPTED.format(folder=str(tmp_path / "run"))
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.stdout == "the notebook goes on\n", done.stderr
    assert done.returncode != 128 + signal.SIGINT
