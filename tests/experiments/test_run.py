"""One run from end to end: what it leaves behind, and what can be done with that."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from experiments import evaluate, train
from jaxmeta.data import make_episode
from jaxmeta.runs.workdir import restore
from jaxmeta.train import init_train_state
from jaxmeta.types import Augment
from tests.experiments.conftest import DOTS, WAVES, finish, read_metrics, start
from tests.experiments.dots import patterns

Launch = Callable[..., None]
FIELDS = (
    "data split episodes evaluations mixed_precision seed steps best_step step train_seconds "
    "checkpoint backend devices versions"
)
ROW = "learner normalization inner_steps split ways shots queries metrics"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {method: tmp_path_factory.mktemp(method) / "run" for method in ("maml", "prototypical")}


# The tests of a run in one process, which makes it once.
@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in ("maml", "prototypical")
    ]
)
def method(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folder(method: str, runs: dict[str, Path], launch: Launch) -> Path:
    """A run of each method, made once."""
    if not runs[method].exists():
        launch(train, f"--config={DOTS}:{method}", f"--workdir={runs[method]}")
    return runs[method]


def again(launch: Launch, folder: Path, *arguments: str) -> dict[str, Any]:
    launch(evaluate, f"--workdir={folder}", "--trust=tests", *arguments)
    return json.loads((folder / "evaluations.jsonl").read_text().splitlines()[-1])


def accuracy(result: dict[str, Any]) -> float:
    """Of the first evaluation."""
    row = next(iter(result["evaluations"].values()))
    mean: float = row["metrics"]["accuracy"]["mean"]
    return mean


def test_what_it_leaves_behind(folder: Path, method: str) -> None:
    result = json.loads((folder / "result.json").read_text())
    assert set(result) == set(FIELDS.split())
    (row,) = result["evaluations"].values()
    assert set(row) == set(ROW.split())
    assert row["learner"] == method
    assert result["data"] == {"make": "patterns", "classes": 12, "examples": 4}
    assert row["inner_steps"] == (5 if method == "maml" else None)
    assert list(row["metrics"]) == ["accuracy"]
    assert result["versions"]["jax"] == jax.__version__
    assert result["devices"].startswith(f"{jax.device_count()} x")
    assert 1 / 3 < accuracy(result) <= 1, "the patterns are easy to tell apart"
    for name in ("curve.png", "episode.png"):
        with Image.open(folder / name) as image:
            image.verify()
    assert any(path.stat().st_size for path in (folder / "events").iterdir())
    rows = read_metrics(folder)
    assert [row["step"] for row in rows] == [20, 20, 40, 40]
    assert {"train/loss", "train/accuracy", "train/outer_gradient_norm"} <= set(rows[0])
    assert {"step", "validation/accuracy", "validation/accuracy_ci95"} == set(rows[1])


def test_evaluating_again_gives_the_same(folder: Path, launch: Launch) -> None:
    result = json.loads((folder / "result.json").read_text())
    assert again(launch, folder) == result
    last = again(launch, folder, "--checkpoint=last")
    assert last["step"] == last["steps"] >= last["best_step"]
    fewer = again(launch, folder, "--episodes=4", "--split=train")
    assert (fewer["episodes"], fewer["split"]) == (4, "train")
    other = again(launch, folder, f"--data={DOTS}", "--data.data.classes=6")
    assert other["data"] == {"make": "patterns", "classes": 6, "examples": 4}


def test_evaluating_other_episodes(
    folder: Path, method: str, launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = again(launch, folder, "--ways=2", "--shots=2", "--queries=1")
    row = result["evaluations"]["trained"]
    assert (row["ways"], row["shots"], row["queries"]) == (2, 2, 1)
    assert accuracy(result) > 1 / 2
    if method == "prototypical":
        more = again(launch, folder, "--ways=6")
        assert more["evaluations"]["trained"]["ways"] == 6
        assert accuracy(more) > 1 / 6
        return
    before = (folder / "evaluations.jsonl").read_text()
    with pytest.raises(
        SystemExit, match="The model has 3 outputs but the learner is to tell 6 ways"
    ):
        launch(evaluate, f"--workdir={folder}", "--trust=tests", "--ways=6")
    assert (folder / "evaluations.jsonl").read_text() == before


def test_restored_it_classifies_arrays(folder: Path) -> None:
    learner, params, state = restore(folder)
    data = patterns(classes=12, examples=4)["test"].data
    x = np.asarray(data.examples).reshape(12, 4, 8, 8, 1)[[0, 5, 11]]
    labels = np.array([2, 0, 1])
    asked = np.repeat(labels, 3)
    support, query = make_episode(x[:, 0], labels, x[:, 1:].reshape(9, 8, 8, 1), asked, ways=3)

    @jax.jit
    def answer(support, query):
        adapted, _ = learner.adapt(params, state, support, jax.random.key(0))
        return learner.predict(params, state, adapted, query.x, query.mask)[0]

    outputs = answer(support, query)
    assert outputs.shape == (9, 3)
    assert np.mean(outputs.argmax(axis=-1) == asked) > 0.6


@pytest.mark.slow
def test_a_head_for_more_ways_than_are_evaluated(launch: Launch, tmp_path: Path) -> None:
    options = ["--config.sample.ways=5", "--config.model.outputs=5", "--config.steps=20"]
    launch(train, f"--config={DOTS}", f"--workdir={tmp_path}/run", *options)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["evaluations"]["trained"]["ways"] == 3
    assert accuracy(result) > 1 / 3
    with Image.open(tmp_path / "run" / "episode.png") as image:
        image.verify()
    # Glyphs, waves and the like do not lie anywhere.
    assert again(launch, tmp_path / "run", "--data_dir=nowhere") == result


def test_devices_that_share_a_meta_batch(
    launch: Launch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--config.meta_batch=6", "--config.steps=2", "--config.evaluation.every=2"]
    launch(train, f"--config={WAVES}", f"--workdir={tmp_path}/run", *options)
    assert capsys.readouterr().err.count("Training on 6 of 8 devices") == 1


def test_no_step_needs_no_training(launch: Launch, tmp_path: Path) -> None:
    options = ["--config.steps=0", "--config.optimizer.learning_rate.decay_steps=1"]
    launch(train, f"--config={WAVES}", f"--workdir={tmp_path}/run", *options)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["best_step"] == 0


def blank(padding: int) -> Augment:
    return lambda key, image: jnp.zeros_like(image)


@pytest.mark.slow
def test_training_examples_are_changed_and_evaluated_ones_are_not(
    launch: Launch, tmp_path: Path
) -> None:
    blanked = "--config.objective.augment.make=tests.experiments.test_run.blank"
    launch(train, f"--config={DOTS}:augmented", f"--workdir={tmp_path}/run", blanked)
    rows = read_metrics(tmp_path / "run")
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert len(losses) == 2
    np.testing.assert_allclose(losses, np.log(3), rtol=1e-6)  # three ways that look alike
    assert accuracy(json.loads((tmp_path / "run" / "result.json").read_text())) > 0.5


def test_an_optimizer_whose_state_is_the_parameters() -> None:
    keeps = optax.GradientTransformation(lambda params: params, lambda g, state, params: (g, state))
    params = {"w": jnp.ones(3)}
    train_state = init_train_state(keeps, params, ())
    jax.block_until_ready(jax.jit(lambda state: state, donate_argnums=0)(train_state))
    assert params["w"].tolist() == [1, 1, 1], "the parameters that were given are kept"


def test_written_on_eight_devices_it_is_read_on_others(folder: Path) -> None:
    assert jax.device_count() == 8
    before = (folder / "result.json").read_text()
    status, errors = finish(start("evaluate", f"--workdir={folder}", "--trust=tests"))
    assert status == 0, errors
    one = json.loads((folder / "evaluations.jsonl").read_text().splitlines()[-1])
    eight = json.loads(before)
    assert not one["devices"].startswith("8 x")
    assert accuracy(one) == pytest.approx(accuracy(eight), abs=0.05)
    assert one["best_step"] == eight["best_step"]
