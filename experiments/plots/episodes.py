"""What one episode looks like, and how it is answered."""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure

from jaxmeta.runs import tasks, workdir
from jaxmeta.runs.config import evaluation_of, learner_spec
from jaxmeta.types import Array, Episode, Source

from .drawing import are_images, frame, plt, save, show


def episode(folder: Path, source: Source, trust: Sequence[str] = ()) -> None:
    """Draws the first test episode, ``episode.png``.

    Images and curves are drawn; for other inputs, only the predictions against the targets. Nothing
    is drawn where there are no support sets.
    """
    config = workdir.read_config(folder)
    if not evaluation_of(config)["shots"]:
        return
    learner, params, state = workdir.restore(folder, trust=trust)
    evaluation = evaluation_of(config)
    protocol = {name: evaluation[name] for name in ("ways", "shots", "queries")}
    sample = tasks.episode_sampler(source, "test", protocol, learner_spec(config))
    sample_key, adapt_key = jax.random.split(
        jax.random.fold_in(tasks.evaluation_key(config, "test"), 0)
    )
    task = tasks.draw(sample, source.data, sample_key)

    @jax.jit
    def answer(task: Episode) -> Array:
        adapted, _ = learner.adapt(params, state, task.support, adapt_key)
        return learner.predict(params, state, adapted, task.query.x, task.query.mask)[0]

    draw = drawing_of(task, outputs := answer(task))
    if draw is None:
        return
    support, query = (
        jax.tree.map(lambda leaf, kept=batch.mask > 0: np.asarray(leaf)[kept], batch)
        for batch in task
    )
    figure = draw(Episode(support, query), np.asarray(outputs)[task.query.mask > 0])
    save(figure, folder / "episode.png")


Draw = Callable[[Episode, np.ndarray], Figure]


def drawing_of(task: Episode, outputs: Array) -> Draw | None:
    """How to draw an episode, judging by its shapes; ``None`` when there is no way."""
    x, y = task.query.x, task.query.y
    shape: tuple[int, ...] = getattr(x, "shape", ())
    if np.issubdtype(y.dtype, np.integer):
        if y.ndim != 1 or outputs.ndim != 2:
            return None
        return _images if are_images(x) else _confusion
    if outputs.shape != y.shape:
        return None
    return _curve if shape == y.shape == (y.shape[0], 1) else _scatter


def _images(task: Episode, outputs: np.ndarray) -> Figure:
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
            show(axis, image)
        for axis in used[: len(support)]:
            frame(axis, "tab:blue")
        for axis, guess in zip(used[len(support) :], guesses, strict=True):
            frame(axis, "tab:green" if guess == way else "tab:red")
            if guess != way:
                axis.set_title(f"said {guess}", fontsize=7, color="tab:red", pad=2)
    right = float(np.mean(predicted == task.query.y))
    figure.suptitle(
        f"blue: support set; green: right, red: wrong on the query set ({100 * right:.0f}% right)",
        fontsize=9,
    )
    return figure


def _confusion(task: Episode, outputs: np.ndarray) -> Figure:
    counts = np.zeros((outputs.shape[1], outputs.shape[1]), int)
    np.add.at(counts, (task.query.y, outputs.argmax(axis=-1)), 1)
    figure, axis = plt.subplots(layout="constrained")
    axis.imshow(counts, cmap="Blues", vmax=2 * counts.max())
    for (label, predicted), count in np.ndenumerate(counts):
        axis.text(predicted, label, str(count), ha="center", va="center")
    axis.set(xlabel="prediction", ylabel="label", title="queries")
    axis.set(xticks=range(len(counts)), yticks=range(len(counts)))
    return figure


def _scatter(task: Episode, outputs: np.ndarray) -> Figure:
    figure, axis = plt.subplots(layout="constrained")
    truth = task.query.y.ravel()
    axis.plot([truth.min(), truth.max()], [truth.min(), truth.max()], "--", color="gray")
    axis.plot(truth, outputs.ravel(), "o", markersize=3)
    axis.set(xlabel="target", ylabel="prediction", title="queries")
    return figure


def _curve(task: Episode, outputs: np.ndarray) -> Figure:
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    order = np.argsort(task.query.x[:, 0])
    axis.plot(task.query.x[order, 0], task.query.y[order, 0], "--", color="gray", label="truth")
    axis.plot(task.query.x[order, 0], outputs[order, 0], label="prediction")
    axis.plot(task.support.x[:, 0], task.support.y[:, 0], "o", label="support set")
    axis.set(xlabel="x", ylabel="y")
    axis.legend()
    return figure
