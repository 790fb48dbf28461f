"""The pictures of a run: how it learned, and what one episode looks like."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import matplotlib
import numpy as np

from experiments import common
from experiments.journal import read_metrics
from jaxmeta.distributed.processes import is_primary
from jaxmeta.runs import workdir
from jaxmeta.types import Array, Episode, Source

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def curve(folder: Path) -> None:
    """Draws the training loss and the validation metric against outer steps, ``curve.png``."""
    rows = read_metrics(folder)
    config = workdir.read_config(folder)
    metric = common.name_of(config["metric"])
    training = [row for row in rows if "train/loss" in row]
    validation = [row for row in rows if "validation/mean" in row]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    steps = [row["step"] for row in training]
    left.plot(steps, [row["train/loss"] for row in training])
    left.set(xlabel="outer step", ylabel="query loss (training tasks)", yscale="log")
    right.plot(
        steps, [row[f"train/{metric}"] for row in training], alpha=0.5, label="training tasks"
    )
    right.errorbar(
        [row["step"] for row in validation],
        [row["validation/mean"] for row in validation],
        [row["validation/ci95"] for row in validation],
        marker="o",
        label="validation, 95% interval",
    )
    right.set(xlabel="outer step", ylabel=metric.replace("_", " "))
    right.legend()
    save(figure, folder / "curve.png")


def comparison(folder: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Draws the accuracy of methods against the number of shots, ``comparison.png``."""
    figure, axis = plt.subplots(figsize=(10, 6), layout="constrained")
    shots = results[0]["protocol"]["shots"]
    last = str(shots[-1])
    ordered = sorted(results, key=lambda result: -result["figures"][last]["mean"])
    for i, result in enumerate(ordered):
        figures = [result["figures"][str(k)] for k in shots]
        # Beside each other, where the intervals would hide one another.
        places = np.arange(len(shots)) + (i / max(len(ordered) - 1, 1) - 0.5) * 0.5
        axis.errorbar(
            places,
            [100 * each["mean"] for each in figures],
            [100 * each["ci95"] for each in figures],
            **_style(i),
            label=result["name"],
        )
    axis.set(xticks=range(len(shots)), xticklabels=shots)
    axis.set(xlabel="shots", ylabel="accuracy on test tasks, %, with 95% intervals")
    axis.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside right upper", title=f"best first, at {last} shots")
    save(figure, folder / "comparison.png")


def learning(folder: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Draws the validation accuracy of what was trained against outer steps, ``learning.png``."""
    figure, axis = plt.subplots(figsize=(10, 6), layout="constrained")
    curves = {}
    for run in dict.fromkeys(result["run"] for result in results):
        rows = [row for row in read_metrics(folder / run) if "validation/mean" in row]
        if rows:
            curves[run] = rows
    ordered = sorted(curves, key=lambda run: -curves[run][-1]["validation/mean"])
    for i, run in enumerate(ordered):
        axis.errorbar(
            [row["step"] for row in curves[run]],
            [100 * row["validation/mean"] for row in curves[run]],
            [100 * row["validation/ci95"] for row in curves[run]],
            **_style(i),
            label=run,
        )
    axis.set(xlabel="outer step", ylabel="accuracy on validation tasks, %, with 95% intervals")
    axis.grid(axis="y", alpha=0.3)
    if ordered:
        figure.legend(loc="outside right upper", title="best first, at the end")
    save(figure, folder / "learning.png")


def episode(folder: Path, source: Source, trust: Sequence[str] = ()) -> None:
    """Draws the first test episode, ``episode.png``.

    Images and curves are drawn; of other inputs, only the predictions against what is right.
    """
    config = workdir.read_config(folder)
    learner, params, state = workdir.restore(folder, trust)
    protocol = {name: config[name] for name in ("ways", "shots", "queries")}
    sample = common.sampler(source, "test", protocol, workdir.evaluated_spec(config, {}))
    sample_key, adapt_key = jax.random.split(
        jax.random.fold_in(common.evaluation_key(config, "test"), 0)
    )
    task = common.draw(sample, source.data, sample_key)

    @jax.jit
    def answer(task: Episode) -> Array:
        adapted, _ = learner.adapt(params, state, task.support, adapt_key)
        return learner.predict(params, state, adapted, task.query.x, task.query.mask)[0]

    draw = _choose(task, outputs := answer(task))
    if draw is None:
        return
    support, query = (
        jax.tree.map(lambda leaf, kept=batch.mask > 0: np.asarray(leaf)[kept], batch)
        for batch in task
    )
    figure = draw(Episode(support, query), np.asarray(outputs)[task.query.mask > 0])
    save(figure, folder / "episode.png")


def save(figure: matplotlib.figure.Figure, path: Path) -> None:
    """Writes a picture, of several processes the first one does, and forgets it."""
    if is_primary():
        figure.savefig(path, dpi=120)
    plt.close(figure)


Draw = Callable[[Episode, np.ndarray], matplotlib.figure.Figure]


def _choose(task: Episode, outputs: Array) -> Draw | None:
    """How to draw an episode, by its shapes; ``None`` when there is no way."""
    x, y = task.query.x, task.query.y
    shape: tuple[int, ...] = getattr(x, "shape", ())
    if np.issubdtype(y.dtype, np.integer):
        if y.ndim != 1 or outputs.ndim != 2:
            return None
        return _images if len(shape) == 4 and shape[3] in (1, 3) else _confusion
    if outputs.shape != y.shape:
        return None
    return _curve if shape == y.shape == (y.shape[0], 1) else _scatter


def _images(task: Episode, outputs: np.ndarray) -> matplotlib.figure.Figure:
    predicted = outputs.argmax(axis=-1)
    rows = [
        (task.support.x[task.support.y == way], task.query.x[task.query.y == way], way)
        for way in np.unique(task.support.y)
    ]
    shots = max(len(support) for support, _, _ in rows)
    queries = max(len(query) for _, query, _ in rows)
    figure, axes = plt.subplots(
        len(rows),
        shots + queries,
        figsize=(0.7 * (shots + queries) + 0.6, 0.8 * len(rows) + 0.5),
        squeeze=False,
        layout="constrained",
    )
    for row, (support, query, way) in zip(axes, rows, strict=True):
        guesses = predicted[task.query.y == way]
        row[0].set_ylabel(f"class {way}", fontsize=8)
        for axis in row:
            axis.set(xticks=[], yticks=[], frame_on=False)
        # A class may have fewer examples than another.
        used = [*row[: len(support)], *row[shots : shots + len(query)]]
        for axis, image in zip(used, np.concatenate([support, query]), strict=True):
            axis.imshow(1 - image if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1)
            axis.set_frame_on(True)
        for axis in used[: len(support)]:
            _frame(axis, "tab:blue")
        for axis, guess in zip(used[len(support) :], guesses, strict=True):
            _frame(axis, "tab:green" if guess == way else "tab:red")
            if guess != way:
                axis.set_title(f"said {guess}", fontsize=7, color="tab:red", pad=2)
    right = float(np.mean(predicted == task.query.y))
    figure.suptitle(
        f"blue: support set; green: right, red: wrong on the query set ({100 * right:.0f}% right)",
        fontsize=9,
    )
    return figure


def _confusion(task: Episode, outputs: np.ndarray) -> matplotlib.figure.Figure:
    counts = np.zeros((outputs.shape[1], outputs.shape[1]), int)
    np.add.at(counts, (task.query.y, outputs.argmax(axis=-1)), 1)
    figure, axis = plt.subplots(layout="constrained")
    axis.imshow(counts, cmap="Blues", vmax=2 * counts.max())
    for (label, predicted), count in np.ndenumerate(counts):
        axis.text(predicted, label, str(count), ha="center", va="center")
    axis.set(xlabel="prediction", ylabel="label", title="queries")
    axis.set(xticks=range(len(counts)), yticks=range(len(counts)))
    return figure


def _scatter(task: Episode, outputs: np.ndarray) -> matplotlib.figure.Figure:
    figure, axis = plt.subplots(layout="constrained")
    truth = task.query.y.ravel()
    axis.plot([truth.min(), truth.max()], [truth.min(), truth.max()], "--", color="gray")
    axis.plot(truth, outputs.ravel(), "o", markersize=3)
    axis.set(xlabel="target", ylabel="prediction", title="queries")
    return figure


def _curve(task: Episode, outputs: np.ndarray) -> matplotlib.figure.Figure:
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    order = np.argsort(task.query.x[:, 0])
    axis.plot(task.query.x[order, 0], task.query.y[order, 0], "--", color="gray", label="truth")
    axis.plot(task.query.x[order, 0], outputs[order, 0], label="prediction")
    axis.plot(task.support.x[:, 0], task.support.y[:, 0], "o", label="support set")
    axis.set(xlabel="x", ylabel="y")
    axis.legend()
    return figure


def _style(i: int) -> dict[str, Any]:
    """Of one line of many: twenty colors and seven markers, so that no two lines are alike."""
    colors = plt.get_cmap("tab20")
    return {
        "marker": "os^DvPX"[i % 7],
        "markersize": 5,
        "linewidth": 0.8,
        "color": colors(i % colors.N),
    }


def _frame(axis: matplotlib.axes.Axes, color: str) -> None:
    for spine in axis.spines.values():
        spine.set(edgecolor=color, linewidth=2)
