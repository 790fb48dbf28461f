"""The pictures of a run: how it learned, what one episode looks like, its views and features."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import matplotlib
import numpy as np

from jaxmeta.distributed.processes import is_primary
from jaxmeta.pretraining import mae_reconstruction
from jaxmeta.runs import tasks, workdir
from jaxmeta.runs.checkpoint import load_arrays
from jaxmeta.runs.config import evaluation_of, learner_spec
from jaxmeta.runs.spec import build
from jaxmeta.runs.writers import read_json_lines
from jaxmeta.types import Array, Augment, Episode, Source

matplotlib.use("Agg")
import matplotlib.pyplot as plt

OF_VIEWS = {
    "spread": "spread, 0 if collapsed",
    "positive_cosine": "cosine of two views of an image",
    "instance_accuracy": "views matched to their images",
}
"""Metrics of objectives over views, and what they are called."""
CHANGING = ("jaxmeta.objectives.two_views", "jaxmeta.objectives.augmented")
VIEWED, PAIRS = 6, 4
COLORED, QUERIES, NEIGHBORS = 8, 5, 10


def curve(folder: Path) -> None:
    """Draws the training loss and the validation metric against outer steps, ``curve.png``.

    Objectives over views have a third panel, of what tells a collapse.
    """
    rows = read_json_lines(folder / "metrics.jsonl")
    config = workdir.read_config(folder)
    metric = next(iter(evaluation_of(config)["metrics"]))
    training = [row for row in rows if "train/loss" in row]
    validation = [row for row in rows if f"validation/{metric}" in row]
    of_views = [name for name in OF_VIEWS if any(f"train/{name}" in row for row in training)]
    panels = 3 if of_views else 2
    figure, axes = plt.subplots(1, panels, figsize=(5 * panels, 4), layout="constrained")
    left, right = axes[:2]
    steps, losses = ([row[name] for row in training] for name in ("step", "train/loss"))
    left.plot(steps, losses)
    scale = "log" if min(losses, default=0) > 0 else "linear"
    left.set(xlabel="outer step", ylabel="loss (training tasks)", yscale=scale)
    seen = [(row["step"], row[f"train/{metric}"]) for row in training if f"train/{metric}" in row]
    if seen:
        right.plot(*zip(*seen, strict=True), alpha=0.5, label="training tasks")
    right.errorbar(
        [row["step"] for row in validation],
        [row[f"validation/{metric}"] for row in validation],
        [row[f"validation/{metric}_ci95"] for row in validation],
        marker="o",
        label="validation, 95% interval",
    )
    right.set(xlabel="outer step", ylabel=metric.replace("_", " "))
    right.legend()
    for name in of_views:
        values = [row.get(f"train/{name}", np.nan) for row in training]
        axes[2].plot(steps, values, label=OF_VIEWS[name])
    if of_views:
        bottom = min(0, axes[2].get_ylim()[0])
        axes[2].set(xlabel="outer step", ylabel="outputs for views (training tasks)")
        axes[2].set_ylim(bottom, 1.05)
        axes[2].legend()
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
        rows = read_json_lines(folder / run / "metrics.jsonl")
        seen = [
            (row["step"], 100 * row["validation/accuracy"], 100 * row["validation/accuracy_ci95"])
            for row in rows
            if "validation/accuracy" in row
        ]
        if seen:
            curves[run] = seen
    ordered = sorted(curves, key=lambda run: -curves[run][-1][1])
    for i, run in enumerate(ordered):
        steps, means, halves = zip(*curves[run], strict=True)
        axis.errorbar(steps, means, halves, **_style(i), label=run)
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

    draw = _choose(task, outputs := answer(task))
    if draw is None:
        return
    support, query = (
        jax.tree.map(lambda leaf, kept=batch.mask > 0: np.asarray(leaf)[kept], batch)
        for batch in task
    )
    figure = draw(Episode(support, query), np.asarray(outputs)[task.query.mask > 0])
    save(figure, folder / "episode.png")


def views(folder: Path, source: Source, trust: Sequence[str] = ()) -> None:
    """Draws training images as the objective of a run over changed ones sees them, ``views.png``.

    Nothing is drawn where its objective changes nothing, or inputs are no images.
    """
    spec = _part(workdir.read_config(folder)["objective"], CHANGING)
    if spec is None or source.batches is None:
        return
    batch = tasks.draw(source.batches(VIEWED), source.data, jax.random.key(0))
    if not _are_images(batch.x):
        return
    # The views of a batch are first and second, those of an episode of its support set and queries.
    one = spec.get("support") or spec["augment"]
    two = spec.get("second") or spec["augment"]
    first = _changes(build(one, trust))
    second = first if two == one else _changes(build(two, trust))
    keys = jax.random.split(jax.random.key(0), (2, VIEWED, PAIRS))
    pairs = np.asarray(first(keys[0], batch.x)), np.asarray(second(keys[1], batch.x))
    # An empty column before each pair.
    widths = [1.0, *[0.25, 1.0, 1.0] * PAIRS]
    figure, axes = plt.subplots(
        VIEWED,
        len(widths),
        figsize=(sum(widths), VIEWED + 0.4),
        width_ratios=widths,
        squeeze=False,
    )
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.93, wspace=0.08, hspace=0.08)
    for row, image, one, two in zip(axes, np.asarray(batch.x), *pairs, strict=True):
        for axis in row:
            axis.set_axis_off()
        shown = [image, *(view for pair in zip(one, two, strict=True) for view in pair)]
        used = [axis for axis, width in zip(row, widths, strict=True) if width == 1]
        for axis, each in zip(used, shown, strict=True):
            axis.set_axis_on()
            _show(axis, each)
        _frame(row[0], "tab:blue")
    figure.suptitle("blue: a training image; beside it, pairs of its views", fontsize=9)
    save(figure, folder / "views.png")


def _changes(augment: Augment) -> Callable[[Array, Array], Array]:
    """Several changes of each image, by keys ``[n, several]``."""
    return jax.jit(jax.vmap(jax.vmap(augment, (0, None))))


def _part(objective: Mapping[str, Any], makes: Sequence[str]) -> Mapping[str, Any] | None:
    """The outermost spec in that of an objective that makes one of these."""
    if objective.get("make") in makes:
        return objective
    inner = [objective["objective"]] if "objective" in objective else []
    inner += objective.get("objectives", {}).values()
    return next((spec for each in inner if (spec := _part(each, makes)) is not None), None)


def features(folder: Path, z: np.ndarray, y: np.ndarray, x: Any, seed: int = 0) -> None:
    """Draws features in the plane of their first two principal axes, ``features.png``.

    Of a few classes, in colors; below, if inputs are images, a few of them and the nearest of all.

    Args:
      folder: where to.
      z: features ``[n, d]``.
      y: the class of each, ``[n]``.
      x: the inputs ``[n, ...]``.
      seed: chooses the classes and the queries.
    """
    random = np.random.RandomState(seed)
    unit = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), np.finfo(z.dtype).tiny)
    classes = random.permutation(np.unique(y))[:COLORED]
    if not _are_images(x):
        figure, axis = plt.subplots(figsize=(7, 6), layout="constrained")
        _plane(axis, unit, y, classes, random)
        save(figure, folder / "features.png")
        return
    x = np.asarray(x)
    examples = [random.choice(np.flatnonzero(y == label)) for label in classes]
    queries = examples[:QUERIES]
    heights = [5.6, 0.75 * len(queries) + 0.4]
    figure = plt.figure(figsize=(9, sum(heights)), layout="constrained")
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=heights).flat
    left, right = upper.subfigures(1, 2, squeeze=False, width_ratios=[6, 1]).flat
    _plane(left.subplots(), unit, y, classes, random)
    for i, axis in enumerate(right.subplots(len(classes), 1, squeeze=False).flat):
        _show(axis, x[examples[i]])
        _frame(axis, f"C{i}")
    count = min(NEIGHBORS, len(y) - 1)
    axes = lower.subplots(len(queries), 1 + count, squeeze=False)
    matches = []
    for row, query in zip(axes, queries, strict=True):
        similarities = unit @ unit[query]
        similarities[query] = -np.inf
        nearest = np.argsort(-similarities, kind="stable")[:count]
        _show(row[0], x[query])
        _frame(row[0], "tab:blue")
        for axis, neighbor in zip(row[1:], nearest, strict=True):
            same = y[neighbor] == y[query]
            matches.append(same)
            _show(axis, x[neighbor])
            _frame(axis, "tab:green" if same else "tab:red")
    lower.suptitle(
        "blue: queries; green: neighbors by cosine that are of the same class, red: of another "
        f"({100 * np.mean(matches):.0f}% of the same)",
        fontsize=9,
    )
    save(figure, folder / "features.png")


def _plane(
    axis: matplotlib.axes.Axes,
    unit: np.ndarray,
    y: np.ndarray,
    classes: np.ndarray,
    random: np.random.RandomState,
) -> None:
    # No class on top of another.
    shown = random.permutation(np.flatnonzero(np.isin(y, classes)))
    centered = unit[shown] - unit[shown].mean(axis=0)
    _, lengths, directions = np.linalg.svd(centered, full_matrices=False)
    # A single feature has no second axis.
    shares = np.append(lengths**2, 0) / max(np.sum(lengths**2), np.finfo(unit.dtype).tiny)
    places = np.pad(centered @ directions[:2].T, [(0, 0), (0, 1)])
    colors = [f"C{list(classes).index(label)}" for label in y[shown]]
    size = 24 if shown.size < 500 else 6
    axis.scatter(places[:, 0], places[:, 1], size, color=colors, alpha=0.7)
    axis.set(
        xlabel=f"first principal axis, {100 * shares[0]:.0f}% of the variance",
        ylabel=f"second, {100 * shares[1]:.0f}%",
        title=f"features of unit length, {len(classes)} classes",
    )


def reconstructions(folder: Path, source: Source, shown: int = 8) -> None:
    """Draws images as a masked autoencoder sees and fills them in, ``reconstructions.png``.

    Nothing is drawn where the objective of the run is another.

    Args:
      folder: the folder of the run, whose last checkpoint is taken.
      source: where the images come from.
      shown: how many.
    """
    config = workdir.read_config(folder)
    spec = _part(config["objective"], ("jaxmeta.pretraining.mae",))
    if spec is None or source.batches is None:
        return
    # Features of the best one may be those of a network that hardly fills in.
    step, params = workdir.read_best(
        folder,
        config,
        lambda found, _, last: (last, load_arrays(Path(found.directory) / str(last), "params")),
    )
    sample_key, key = jax.random.split(jax.random.key(0))
    images = np.asarray(tasks.draw(source.batches(shown), source.data, sample_key).x)
    if not _are_images(images):
        return
    given = {name: spec[name] for name in ("mask_share",) if name in spec}
    fill_in = partial(mae_reconstruction, **given)
    filled, hidden = map(np.asarray, jax.jit(fill_in)(params, images, key))
    rows = {"image": images, "seen": np.where(hidden, 0.5, images), "filled in": filled}
    figure, axes = plt.subplots(
        len(rows), shown, figsize=(shown + 0.6, 3.6), squeeze=False, layout="constrained"
    )
    for row, (title, each) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(title, fontsize=8)
        for axis, image in zip(row, each, strict=True):
            _show(axis, image)
    figure.suptitle(
        f"step {step}; hidden patches have their true mean and contrast, which is not predicted",
        fontsize=9,
    )
    save(figure, folder / "reconstructions.png")


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
        return _images if _are_images(x) else _confusion
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
            _show(axis, image)
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


def _show(axis: matplotlib.axes.Axes, image: np.ndarray) -> None:
    """Shows an image in a frame; ink is dark."""
    image = np.clip(image, 0, 1)
    axis.imshow(1 - image if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[], frame_on=True)


def _are_images(x: Any) -> bool:
    shape: tuple[int, ...] = getattr(x, "shape", ())
    return len(shape) == 4 and shape[3] in (1, 3)


def _frame(axis: matplotlib.axes.Axes, color: str) -> None:
    for spine in axis.spines.values():
        spine.set(edgecolor=color, linewidth=2)
