"""Runs whose classes are fixed: evaluated on all examples, on splits of their own."""

import json

import jax
import numpy as np
import pytest

from experiments import plots
from jaxmeta.losses import accuracy
from jaxmeta.runs import prepare, restore, run
from jaxmeta.runs.measure import measure
from jaxmeta.runs.spec import EVERYTHING
from tests.runs.shifted import CONFIG, LEARNER, points


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fixed") / "run"
    return folder, run(CONFIG, folder)


def test_the_result_is_of_all_examples_of_each_split_at_the_last_step(finished):
    folder, result = finished
    learner, params, state = restore(folder, "target", ("tests",))
    x, y, mask = points()["test"].whole(points()["test"].data, jax.random.key(0))
    right = accuracy(learner.predict(params, state, (), x)[0], y, mask)
    row = result["evaluations"]["target"]
    assert row["metrics"]["accuracy"]["mean"] == pytest.approx(float(right), abs=1e-6)
    assert (row["split"], row["shots"]) == ("test", 0)
    assert (result["checkpoint"], result["step"], result["episodes"]) == ("last", 4, None)


def test_every_validation_has_all_evaluations_with_a_split(finished):
    folder, result = finished
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    seen = [row for row in rows if "validation/accuracy" in row]
    assert [row["step"] for row in seen] == [2, 4]
    names = {"accuracy", "target_accuracy", "unlabeled_information"}
    assert {f"validation/{name}" for name in names} < seen[-1].keys()
    last = result["evaluations"]["target"]["metrics"]["accuracy"]["mean"]
    assert seen[-1]["validation/target_accuracy"] == pytest.approx(last, abs=1e-6)


def test_pictures_of_both_domains_and_of_the_critic(finished):
    folder, _ = finished
    plots.domains(folder, points(), EVERYTHING)
    plots.curve(folder)
    plots.episode(folder, points()["test"], EVERYTHING)
    assert all((folder / f"{name}.png").stat().st_size for name in ("domains", "curve"))
    assert not (folder / "episode.png").exists()  # there are no support sets


def test_another_checkpoint_on_request(finished):
    folder, _ = finished
    best = measure(folder, points(), "test", trust=EVERYTHING, checkpoint="best")
    assert best["checkpoint"] == "best"
    assert best["step"] == best["best_step"]


def test_labels_of_the_target_reach_no_parameter(tmp_path, finished):
    from tests.runs import shifted

    folder, _ = finished
    original = shifted.points

    shifted.points = lambda: original(scrambled=True)
    try:
        run(CONFIG, tmp_path / "scrambled", writers=[])
    finally:
        shifted.points = original
    one, other = (restore(each, "source", ("tests",)) for each in (folder, tmp_path / "scrambled"))
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"evaluations": {"a": {"learner": LEARNER, "split": "tset"}}}, "'tset': .*test"),
        ({"evaluation": {"every": 2, "checkpoint": "first"}}, "'first': give 'best' or 'last'"),
        ({"shots": -1}, "shots"),
    ],
)
def test_mistakes_in_such_configs(tmp_path, change, complaint):
    with pytest.raises(ValueError, match=complaint):
        prepare({**CONFIG, **change}, tmp_path / "run")


def test_shots_cannot_be_asked_of_a_fixed_classifier(finished):
    folder, _ = finished
    with pytest.raises(ValueError, match="leave out shots"):
        measure(folder, points(), "test", trust=EVERYTHING, shots=5)
    few_shot = {"learner": {"make": "jaxmeta.learners.prototypical", "ways": 2}}
    with pytest.raises(ValueError, match="support set is empty"):
        prepare({**CONFIG, "evaluations": {"a": few_shot}}, folder.parent / "empty")
