"""What pretraining sees and makes: views, features, filled-in images."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes

from jaxmeta.pretraining import mae_reconstruction
from jaxmeta.runs import tasks, workdir
from jaxmeta.runs.checkpoint import load_arrays
from jaxmeta.runs.config import build_model
from jaxmeta.runs.spec import build
from jaxmeta.types import Array, Augment, Source

from .drawing import are_images, frame, plt, save, show

CHANGING = ("jaxmeta.objectives.two_views", "jaxmeta.objectives.augmented")

VIEWED, PAIRS = 6, 4

COLORED, QUERIES, NEIGHBORS = 8, 5, 10


def views(folder: Path, source: Source, trust: Sequence[str] = ()) -> None:
    """Draws training images as the augmenting objective of a run sees them, ``views.png``.

    Nothing is drawn if the objective does not augment its inputs or they are not images.
    """
    spec = _part(workdir.read_config(folder)["objective"], CHANGING)
    if spec is None or source.batches is None:
        return
    batch = tasks.draw(source.batches(VIEWED), source.data, jax.random.key(0))
    if not are_images(batch.x):
        return
    # A batch has first and second views; an episode has views of its support set and queries.
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
            show(axis, each)
        frame(row[0], "tab:blue")
    figure.suptitle("blue: a training image; beside it, pairs of its views", fontsize=9)
    save(figure, folder / "views.png")


def _changes(augment: Augment) -> Callable[[Array, Array], Array]:
    """Several augmentations of each image, by keys ``[n, several]``."""
    return jax.jit(jax.vmap(jax.vmap(augment, (0, None))))


def _part(objective: Mapping[str, Any], makes: Sequence[str]) -> Mapping[str, Any] | None:
    """The outermost spec, within that of an objective, that makes one of ``makes``."""
    if objective.get("make") in makes:
        return objective
    inner = [objective["objective"]] if "objective" in objective else []
    inner += objective.get("objectives", {}).values()
    return next((spec for each in inner if (spec := _part(each, makes)) is not None), None)


def features(folder: Path, z: np.ndarray, y: np.ndarray, x: Any, seed: int = 0) -> None:
    """Draws features in the plane of their first two principal axes, ``features.png``.

    The features are those of a few classes, in colors. Below, if inputs are images, are a few of
    them and their nearest neighbors among all.

    Args:
      folder: folder to write to.
      z: features ``[n, d]``.
      y: the class of each, ``[n]``.
      x: the inputs ``[n, ...]``.
      seed: chooses the classes and the queries.
    """
    random = np.random.RandomState(seed)
    unit = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), np.finfo(z.dtype).tiny)
    classes = random.permutation(np.unique(y))[:COLORED]
    if not are_images(x):
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
        show(axis, x[examples[i]])
        frame(axis, f"C{i}")
    count = min(NEIGHBORS, len(y) - 1)
    axes = lower.subplots(len(queries), 1 + count, squeeze=False)
    matches = []
    for row, query in zip(axes, queries, strict=True):
        similarities = unit @ unit[query]
        similarities[query] = -np.inf
        nearest = np.argsort(-similarities, kind="stable")[:count]
        show(row[0], x[query])
        frame(row[0], "tab:blue")
        for axis, neighbor in zip(row[1:], nearest, strict=True):
            same = y[neighbor] == y[query]
            matches.append(same)
            show(axis, x[neighbor])
            frame(axis, "tab:green" if same else "tab:red")
    lower.suptitle(
        "blue: queries; green: neighbors by cosine that are of the same class, red: of another "
        f"({100 * np.mean(matches):.0f}% of the same)",
        fontsize=9,
    )
    save(figure, folder / "features.png")


def _plane(
    axis: Axes,
    unit: np.ndarray,
    y: np.ndarray,
    classes: np.ndarray,
    random: np.random.RandomState,
) -> None:
    # Shuffled, so that no class lies on top of another.
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


def reconstructions(
    folder: Path, source: Source, trust: Sequence[str] = (), shown: int = 8
) -> None:
    """Draws images as a masked autoencoder sees and fills them in, ``reconstructions.png``.

    Nothing is drawn if the run has another objective.

    Args:
      folder: the folder of the run, whose last checkpoint is used.
      source: where the images come from.
      trust: packages whose functions the config may name.
      shown: number of images.
    """
    config = workdir.read_config(folder)
    spec = _part(config["objective"], ("jaxmeta.pretraining.mae",))
    if spec is None or source.batches is None:
        return
    # The checkpoint with the best features may be of a network that hardly fills in.
    step, params = workdir.read_best(
        folder,
        config,
        lambda found, _, last: (last, load_arrays(Path(found.directory) / str(last), "params")),
    )
    sample_key, key = jax.random.split(jax.random.key(0))
    images = np.asarray(tasks.draw(source.batches(shown), source.data, sample_key).x)
    if not are_images(images):
        return
    given = {name: spec[name] for name in ("mask_share",) if name in spec}
    fill_in = partial(mae_reconstruction, build_model(config, trust), **given)
    filled, hidden = map(np.asarray, jax.jit(fill_in)(params, images, key))
    rows = {"image": images, "seen": np.where(hidden, 0.5, images), "filled in": filled}
    figure, axes = plt.subplots(
        len(rows), shown, figsize=(shown + 0.6, 3.6), squeeze=False, layout="constrained"
    )
    for row, (title, each) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(title, fontsize=8)
        for axis, image in zip(row, each, strict=True):
            show(axis, image)
    figure.suptitle(
        f"step {step}; hidden patches have their true mean and contrast, which is not predicted",
        fontsize=9,
    )
    save(figure, folder / "reconstructions.png")
