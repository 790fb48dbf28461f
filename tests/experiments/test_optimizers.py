"""Learned optimizers beside tuned rivals: what is tuned, measured, and reported."""

import json
from pathlib import Path

import numpy as np
import optax
import pytest

from experiments import optimizing
from experiments.configs import glyphs, quadratics
from jaxmeta.runs import prepare, train


@pytest.fixture(scope="module", params=["along", "trajectories"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = quadratics.get_config(request.param)
    config.steps = config.log_every = config.evaluation.every = 2
    config.meta_batch, config.evaluation.validation_episodes, config.evaluation.episodes = 2, 4, 4
    config.data.size = 3
    config.learner.inner.steps, config.learner.inner.truncate = 4, 2
    config.learner.inner.optimizer.layers = [3]
    if request.param == "trajectories":
        config.objective.update(stretch=2, horizon=4)
        config.objective.optimizer.layers = [3]
    folder = tmp_path_factory.mktemp("optimizers") / "run"
    train(prepare(config, folder), writers=[])
    return folder


def test_all_start_alike_and_the_best_rate_of_training_tasks_is_chosen(
    trained: Path, tmp_path: Path
) -> None:
    problems, optimizer = optimizing.load(trained, None, ())
    rates = np.array([1e-4, 1e-2, 10.0])
    curves = [
        optimizing.learned("run", problems, optimizer, 5, 12),
        optimizing.rival("sgd", problems, 5, 12, rates),
    ]
    assert [curve.losses.shape for curve in curves] == [(12, 6)] * 2
    np.testing.assert_allclose(curves[0].losses[:, 0], curves[1].losses[:, 0], rtol=1e-6)
    tuned = optimizing.losses_of(problems, optax.sgd, 5, "train", 12, 0)
    ends = [optimizing.final(tuned(rate)) for rate in rates]
    assert curves[1].rate == rates[np.argmin(ends)] == 1e-2
    assert ends[2] > 1e3
    moved = [
        optimizing.movement("run", problems, optimizer, 5),
        optimizing.movement("sgd", problems, optax.sgd(0.01), 5),
    ]
    np.testing.assert_allclose(moved[1].update, -0.01 * moved[1].gradient, rtol=1e-3, atol=1e-6)
    assert np.abs(moved[0].update + 0.01 * moved[0].gradient).max() > 1e-4
    text = optimizing.write(tmp_path, curves, "run", moved)
    assert "| `sgd` | 5 | 0.01 |" in text
    row = json.loads((tmp_path / "optimizers.json").read_text())["rows"][1]
    last = [np.log10(np.float64(curve.losses[:, -1])) for curve in curves]
    assert row["apart"]["mean"] == pytest.approx(np.mean(last[1] - last[0]), rel=1e-6)
    assert (tmp_path / "optimizers.png").exists()
    assert (tmp_path / "optimizers_update.png").exists()


def test_a_curve_has_the_loss_after_each_step(trained: Path) -> None:
    problems, _ = optimizing.load(trained, None, ())
    losses = optimizing.losses_of(problems, optax.sgd, 3, "test", 2, 0)(0.01)
    shorter = optimizing.losses_of(problems, optax.sgd, 2, "test", 2, 0)(0.01)
    np.testing.assert_allclose(losses[:, :3], shorter, rtol=1e-5)
    assert (np.diff(losses, axis=1) < 0).all()


def test_what_diverged_is_told() -> None:
    losses = np.array([[1.0, 0.5], [1.0, 2.0], [1.0, np.nan], [1.0, 0.1]])
    reference = optimizing.Curve("learned", 1, None, np.full((4, 2), 0.5))
    row = optimizing.row(optimizing.Curve("sgd", 1, 0.1, losses), reference)
    assert row["diverged"] == 0.5
    assert row["loss"] == float("inf")
    # The infinite one has no logarithm to compare.
    expected = np.mean(np.log10(np.array([0.5, 2.0, 0.1]) / 0.5))
    assert row["apart"]["mean"] == pytest.approx(expected)


def test_a_run_without_a_learned_optimizer_is_refused(tmp_path: Path) -> None:
    config = glyphs.get_config("maml")
    config.data.update(classes=(6, 6, 6), examples=22, size=14)
    config.model.filters, config.steps = 4, 2
    prepare(config, tmp_path / "run")
    with pytest.raises(ValueError, match="has no learned optimizer"):
        optimizing.load(tmp_path / "run", None, ())
