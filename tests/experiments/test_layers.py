"""Which layers transfer: what is copied, what is random, and rows that are kept."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments import copied, plots
from experiments.configs import glyphs
from jaxmeta.data import glyphs as glyph_sources
from jaxmeta.evaluate import evaluator
from jaxmeta.learners import fine_tuning
from jaxmeta.losses import accuracy
from jaxmeta.nn import mlp
from jaxmeta.runs import prepare, tasks, train, workdir
from jaxmeta.types import PyTree
from tests.experiments.conftest import finish, start

PROTOCOL = copied.Protocol(shots=[1], episodes=4, steps=2, learning_rates=[0.01, 0.1], split="test")
SIZES = {"classes": (12, 8, 8), "examples": 10, "size": 14}
LAYERS = ["layer0", "head"]  # of the run
PARTS = ["layer0", "layer1", "layer2", "head"]


def small() -> ConfigDict:
    """A classifier of a few characters, for a few steps."""
    config = glyphs.get_config("pretrained")
    config.data.update(**SIZES)
    config.model = ConfigDict({"make": "jaxmeta.nn.mlp", "outputs": 8, "hidden": [8]})
    config.sample.batches, config.meta_batch = 16, 1
    config.steps, config.log_every, config.evaluation.every = 2, 2, 2
    config.evaluation.validation_episodes = 2
    config.ways, config.queries = 3, 4
    return config


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> copied.Run:
    folder = tmp_path_factory.mktemp("layers") / "run"
    train(prepare(small(), folder), writers=[])
    return copied.load(folder, LAYERS, None, ())


def logits_of(copied_parts: list[str], *changed: str) -> np.ndarray:
    """Predictions after copying some parts from parameters of which others are doubled."""
    source = glyph_sources(**SIZES)["test"]
    task = source.episodes(ways=3, shots=1, queries=2)(source.data, jax.random.key(0))
    model = mlp(8, hidden=(8, 8, 8))
    trained = [part for part in PARTS if part not in copied_parts]
    learner = copied.copying(fine_tuning(model, 3, trained=trained, steps=2), copied_parts)
    params, state = learner.init(jax.random.key(1), task)

    @jax.jit
    def answer(params: PyTree) -> jax.Array:
        adapted, _ = learner.adapt(params, state, task.support, jax.random.key(2))
        return learner.predict(params, state, adapted, task.query.x)[0]

    for part in changed:
        params["model"][part] = jax.tree.map(lambda leaf: leaf**2 - 0.3, params["model"][part])
    return np.asarray(answer(params))


def test_only_the_parts_that_are_copied_come_from_the_run() -> None:
    below = PARTS[:2]
    given = logits_of(below)
    np.testing.assert_array_equal(logits_of(below, "layer2", "head"), given)
    for part in below:
        assert np.abs(logits_of(below, part) - given).max() > 1e-3


def test_with_all_parts_copied_it_is_transfer_of_features(run: copied.Run) -> None:
    row = copied.Row(2, frozen=True)
    spec = copied.spec_of(run, row, 3, 0.1)
    own = copied.accuracies(run, row, spec, 1, "test", 4)
    plain = fine_tuning(mlp(8, hidden=(8,)), 3, steps=3, learning_rate=0.1)
    _, *learned = workdir.restore(run.folder, **spec)
    source = run.sources["test"]
    solve = evaluator(plain, {"accuracy": accuracy}, source.episodes(3, 1, 4), 4)
    values = solve(*learned, source.data, tasks.evaluation_key(run.config, "test"))["accuracy"]
    np.testing.assert_allclose(own, values, rtol=1e-6)


def test_rows_are_measured_once_and_rates_chosen_by_validation(run: copied.Run) -> None:
    depths = copied.rows_of(run.parts)
    names = [f"{count} {how}" for count in (2, 1) for how in ("frozen", "trained")]
    assert [depth.name for depth in depths] == [*names, "0 trained"]
    depth = copied.Row(1, frozen=True)
    rows = [copied.evaluate(run, each, PROTOCOL) for each in (depths[0], depth, depths[-1])]
    valid = [
        np.mean(copied.accuracies(run, depth, copied.spec_of(run, depth, 2, rate), 1, "valid", 2))
        for rate in PROTOCOL.learning_rates
    ]
    best = PROTOCOL.learning_rates[int(np.argmax(valid))]
    assert rows[1]["learning_rates"]["1"] == best
    copied.write(run.folder, rows)
    plots.layers(run.folder, rows)
    assert (run.folder / "layers.png").stat().st_size > 10_000
    stored = json.loads((run.folder / "layers.json").read_text())
    assert stored["rows"] == json.loads(json.dumps(rows))
    lines = (run.folder / "layers.md").read_text().splitlines()
    assert lines[2].startswith("| layer0, head | frozen |")
    assert lines[-1].startswith("| none |  |")
    again = PROTOCOL._replace(episodes=3)
    assert copied.recalled(run, copied.Row(2, True), PROTOCOL) == stored["rows"][0]
    assert copied.recalled(run, copied.Row(2, True), again) is None


@pytest.mark.slow
def test_the_command_evaluates_every_depth_once(run: copied.Run) -> None:
    options = (f"--workdir={run.folder}", "--parts=layer0,head", "--shots=1", "--episodes=2")
    first = finish(start("layers", *options, "--steps=1"))
    kept = {path: path.stat().st_mtime_ns for path in (run.folder / "layers").iterdir()}
    assert first[0] == 0, first[1]
    assert len(json.loads((run.folder / "layers.json").read_text())["rows"]) == len(kept) == 5
    assert finish(start("layers", *options, "--steps=1"))[0] == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_mistakes_are_told(run: copied.Run, tmp_path: Path) -> None:
    for wrong in (["x"], [], ["0"], ["-1"], ["nan"]):
        with pytest.raises(ValueError, match=r"--learning_rates.*0\.001,0\.003"):
            copied.rates_of(wrong)
    with pytest.raises(ValueError, match="no run"):
        copied.load(tmp_path, [], None, ())
    with pytest.raises(ValueError, match=r"head, layer0, .* order: give --parts"):
        copied.load(run.folder, [], None, ())
    chosen = PROTOCOL._replace(split="valid")
    with pytest.raises(ValueError, match="--split=valid is what learning rates are chosen on"):
        next(copied.evaluated(run, chosen))
    for wrong in (["layer0"], ["layer0", "head", "head"], ["layer0", "tail"]):
        with pytest.raises(ValueError, match="parts head, layer0: give all"):
            copied.load(run.folder, wrong, None, ())
