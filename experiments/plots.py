"""The pictures of a run: how it learned, and what one episode looks like."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import matplotlib
import numpy as np

from experiments import common
from experiments.journal import read_metrics
from jaxmeta import workdir
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
    figure.savefig(folder / "curve.png", dpi=120)
    plt.close(figure)


def episode(folder: Path, source: Source) -> None:
    """Draws the first test episode, ``episode.png``: support set, queries, and the predictions.

    Inputs that are neither images nor numbers are not drawn.
    """
    config = workdir.read_config(folder)
    learner, params, state = workdir.restore(folder)
    protocol = {name: config[name] for name in ("ways", "shots", "queries")}
    sample = source.episodes(**protocol)
    sample_key, adapt_key = jax.random.split(
        jax.random.fold_in(common.evaluation_key(config, "test"), 0)
    )
    task = sample(source.data, sample_key)

    @jax.jit
    def answer(task: Episode) -> Array:
        adapted, _ = learner.adapt(params, state, task.support, adapt_key)
        return learner.predict(params, state, adapted, task.query.x, task.query.mask)[0]

    shape: tuple[int, ...] = getattr(task.query.x, "shape", ())[1:]
    labelled = np.issubdtype(task.query.y.dtype, np.integer)
    draw: Callable[[Episode, np.ndarray], matplotlib.figure.Figure]
    if labelled and shape[2:] in ((1,), (3,)):
        draw = partial(_classification, ways=config["ways"])
    elif not labelled and shape == task.query.y.shape[1:] == (1,):
        draw = _regression
    else:
        return
    outputs = np.asarray(answer(task))
    figure = draw(jax.tree.map(np.asarray, task), outputs)
    figure.savefig(folder / "episode.png", dpi=120)
    plt.close(figure)


def _classification(task: Episode, outputs: np.ndarray, ways: int) -> matplotlib.figure.Figure:
    predicted = outputs.argmax(axis=-1)
    rows = [
        (task.support.x[task.support.y == way], task.query.x[task.query.y == way], way)
        for way in range(ways)
    ]
    shots, queries = len(rows[0][0]), len(rows[0][1])
    figure, axes = plt.subplots(
        ways,
        shots + queries,
        figsize=(0.7 * (shots + queries) + 0.6, 0.8 * ways + 0.5),
        squeeze=False,
        layout="constrained",
    )
    for row, (support, query, way) in zip(axes, rows, strict=True):
        guesses = predicted[task.query.y == way]
        row[0].set_ylabel(f"class {way}", fontsize=8)
        for axis, image in zip(row, np.concatenate([support, query]), strict=True):
            axis.imshow(1 - image if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
        for axis in row[:shots]:
            _frame(axis, "tab:blue")
        for axis, guess in zip(row[shots:], guesses, strict=True):
            _frame(axis, "tab:green" if guess == way else "tab:red")
            if guess != way:
                axis.set_title(f"said {guess}", fontsize=7, color="tab:red", pad=2)
    right = float(np.mean(predicted == task.query.y))
    figure.suptitle(
        f"blue: support set; green: right, red: wrong on the query set ({100 * right:.0f}% right)",
        fontsize=9,
    )
    return figure


def _regression(task: Episode, outputs: np.ndarray) -> matplotlib.figure.Figure:
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    order = np.argsort(task.query.x[:, 0])
    axis.plot(task.query.x[order, 0], task.query.y[order, 0], "--", color="gray", label="truth")
    axis.plot(task.query.x[order, 0], outputs[order, 0], label="prediction")
    axis.plot(task.support.x[:, 0], task.support.y[:, 0], "o", label="support set")
    axis.set(xlabel="x", ylabel="y")
    axis.legend()
    return figure


def _frame(axis: matplotlib.axes.Axes, colour: str) -> None:
    for spine in axis.spines.values():
        spine.set(edgecolor=colour, linewidth=2)
