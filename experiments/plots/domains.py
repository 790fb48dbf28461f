"""What adaptation does to the features of two domains."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

from jaxmeta import probes
from jaxmeta.data.domain_shift import Domains
from jaxmeta.runs import tasks, workdir
from jaxmeta.runs.config import build_model, build_objective
from jaxmeta.types import Batch, PyTree, Source

from .drawing import plt, save

SHOWN = 500


def domains(folder: Path, sources: Mapping[str, Source], trust: Sequence[str] = ()) -> None:
    """Draws features of both domains before and after training, ``domains.png``.

    Each row has the plane of the first two principal axes of both domains' features: on the left
    colored by domain, on the right by class. Nothing is drawn for runs of one domain.

    Args:
      folder: the folder of the run, whose last checkpoint is used.
      sources: as of :func:`jaxmeta.data.domain_shift`.
      trust: packages whose functions the config may name.
    """
    if "unlabeled" not in sources or not isinstance(sources["train"].data, Domains):
        return
    config = workdir.read_config(folder)
    model = build_model(config, trust)
    objective, shapes = build_objective(config, trust), workdir.read_shapes(folder)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes.task)
    before = jax.jit(objective.init)(tasks.run_streams(config).init, zeros)
    _, *after = workdir.restore(folder, trust=trust, checkpoint="last")
    batches = [_some(sources[split]) for split in ("valid", "test")]
    y = np.concatenate([np.asarray(batch.y) for batch in batches])
    domain = np.repeat([0, 1], [len(batch.y) for batch in batches])
    figure, axes = plt.subplots(2, 2, figsize=(9, 8.4), layout="constrained")
    rows = {"before training": before, f"after {config['steps']:,} steps": after}
    for (title, (params, state)), row in zip(rows.items(), axes, strict=True):
        places = _plane(model, params, state, batches)
        _scatter(row[0], places, domain, ["source", "target"])
        _scatter(row[1], places, y, [str(label) for label in range(y.max() + 1)])
        row[0].set_title(f"{title}: by domain", fontsize=10)
        row[1].set_title(f"{title}: by class, of both domains", fontsize=10)
    save(figure, folder / "domains.png")


def _some(source: Source) -> Batch:
    """Evenly spaced examples, of all classes."""
    assert source.whole is not None
    batch = tasks.draw(source.whole, source.data, jax.random.key(0))
    rows = np.linspace(0, batch.mask.size - 1, min(SHOWN, batch.mask.size)).astype(int)
    return jax.tree.map(lambda leaf: leaf[rows], batch)


def _plane(model: Any, params: PyTree, state: PyTree, batches: Sequence[Batch]) -> np.ndarray:
    """Where features of the batches lie in the plane of their first two principal axes."""
    z = np.concatenate(
        [np.asarray(probes.features(model, params["model"], state["model"], b.x)) for b in batches]
    )
    centered = z - z.mean(axis=0)
    _, _, directions = np.linalg.svd(centered, full_matrices=False)
    return centered @ directions[:2].T


def _scatter(axis: Axes, places: np.ndarray, groups: np.ndarray, names: Sequence[str]) -> None:
    # Shuffled, so that no group lies on top of another.
    order = np.random.RandomState(0).permutation(len(places))
    colors = [f"C{group}" for group in groups[order]]
    axis.scatter(places[order, 0], places[order, 1], 8, color=colors, alpha=0.7)
    for group, name in enumerate(names):
        axis.scatter([], [], 20, color=f"C{group}", label=name)
    axis.legend(fontsize=8)
    axis.set(xlabel="first principal axis", ylabel="second")


def adaptation(folder: Path, outcomes: Sequence[Any]) -> None:
    """Draws the accuracy on the target against outer steps, ``adaptation.png``.

    Each method has the mean over its seeds, and a band from the lowest to the highest.

    Args:
      folder: folder to write to.
      outcomes: of runs, as of :mod:`experiments.adapting`.
    """
    pairs = list(dict.fromkeys(each.pair for each in outcomes))
    columns = min(len(pairs), 4)
    rows = -(-len(pairs) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(5 * columns + 1, 4 * rows), squeeze=False, layout="constrained"
    )
    methods = list(dict.fromkeys(each.method for each in outcomes))
    for axis, pair in zip(axes.flat, pairs, strict=False):
        for i, method in enumerate(methods):
            own = [each for each in outcomes if (each.pair, each.method) == (pair, method)]
            if not own:
                continue
            values = 100 * np.array([each.scores["target_accuracy"] for each in own])
            axis.plot(own[0].steps, values.mean(axis=0), color=f"C{i}", label=method)
            axis.fill_between(
                own[0].steps, values.min(axis=0), values.max(axis=0), color=f"C{i}", alpha=0.2
            )
        axis.set(xlabel="outer step", ylabel="accuracy on the target's test set, %")
        axis.set_title(pair.replace(":", " to "), fontsize=10)
        axis.grid(axis="y", alpha=0.3)
    for axis in axes.flat[len(pairs) :]:
        axis.set_axis_off()
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper")
    save(figure, folder / "adaptation.png")
