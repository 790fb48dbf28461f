"""How fast learned optimizers minimize, beside rivals whose rates are tuned."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from jaxmeta.evaluate import summarize
from jaxmeta.inner import LearnedOptimizer, unroll
from jaxmeta.keys import streams
from jaxmeta.learners import from_scratch
from jaxmeta.runs import tasks, workdir
from jaxmeta.runs.spec import build
from jaxmeta.types import Loss, Model, Source

from . import plots

RIVALS: dict[str, Callable[[Any, int], optax.GradientTransformation]] = {
    "sgd": lambda rate, steps: optax.sgd(rate),
    "nesterov": lambda rate, steps: optax.sgd(rate, momentum=0.9, nesterov=True),
    "rmsprop": lambda rate, steps: optax.rmsprop(rate),
    "adam": lambda rate, steps: optax.adam(rate),
    "adam_cosine": lambda rate, steps: optax.adam(optax.cosine_decay_schedule(rate, steps)),
}
"""Optimizers of a rate and a number of steps, by name."""
TUNING = 128  # tasks of the training split on which rates are chosen
AT_A_TIME = 64  # tasks


class Problems(NamedTuple):
    """What a run trained an optimizer for.

    Attributes:
      model: the network, which starts anew on each task.
      loss: what is minimized.
      sources: by split.
      protocol: the episodes.
    """

    model: Model
    loss: Loss
    sources: Mapping[str, Source]
    protocol: Mapping[str, Any]


class Curve(NamedTuple):
    """The losses of an optimizer.

    Attributes:
      name: of the optimizer.
      steps: for which it was tuned and run.
      rate: the rate chosen; ``None`` for a learned one.
      losses: ``[tasks, steps + 1]``, before and after each step.
    """

    name: str
    steps: int
    rate: float | None
    losses: np.ndarray


def load(
    folder: Path, data_dir: str | None, trust: Sequence[str]
) -> tuple[Problems, optax.GradientTransformation]:
    """What a run trained for, and its optimizer.

    Raises:
      ValueError: the run trained no optimizer.
    """
    config = workdir.read_config(folder)
    spec = (config["learner"] or {}).get("inner", {}).get("optimizer", {})
    learned = build(spec, trust) if "make" in spec else None
    if not isinstance(learned, LearnedOptimizer):
        raise ValueError(
            f"The learner of the run in {folder} has no learned optimizer: give runs like those of "
            "experiments/configs/quadratics.py."
        )
    restored = workdir.restore(folder, trust=trust)
    model, loss = (build(config[name], trust) for name in ("model", "loss"))
    protocol = {name: config[name] for name in ("ways", "shots", "queries")}
    sources = tasks.load_sources(config, data_dir, trust)
    problems = Problems(model, loss, sources, protocol)
    return problems, learned.optimizer(restored.params["hyper"])


def losses_of(
    problems: Problems,
    optimizer: Callable[[Any], optax.GradientTransformation],
    steps: int,
    split: str,
    count: int,
    seed: int,
) -> Callable[[Any], np.ndarray]:
    """A function from what an optimizer is made of to its losses ``[tasks, steps + 1]``.

    The tasks and the networks' starts are the same for every optimizer.
    """
    source = problems.sources[split]
    sample = source.episodes(**problems.protocol)
    keys = jax.random.split(getattr(streams(seed), "test" if split == "test" else "valid"), count)

    @jax.jit
    def computed(made_of: Any) -> jax.Array:
        # A loss is measured before its step, so the last one needs a step more.
        inner = unroll(optimizer(made_of), steps + 1, first_order=True)
        learner = from_scratch(problems.model, inner=inner, loss=problems.loss)

        def one(key: jax.Array) -> jax.Array:
            task_key, adapt_key = jax.random.split(key)
            support = sample(source.data, task_key).support
            losses: jax.Array = learner.adapt((), (), support, adapt_key)[1]["support_loss"]
            return losses

        return jax.lax.map(one, keys, batch_size=min(AT_A_TIME, count))

    return lambda made_of: np.asarray(computed(made_of))


def final(losses: np.ndarray) -> float:
    """The mean loss at the end; infinite if a task diverged."""
    last = np.asarray(losses[:, -1], np.float64)
    return float(last.mean()) if np.isfinite(last).all() else float("inf")


def rival(name: str, problems: Problems, steps: int, count: int, rates: np.ndarray) -> Curve:
    """The curve of a rival, at the rate that is the best on training tasks."""

    def make(rate: Any) -> optax.GradientTransformation:
        return RIVALS[name](rate, steps)

    tuned = losses_of(problems, make, steps, "train", min(TUNING, count), seed=0)
    best = float(rates[int(np.argmin([final(tuned(rate)) for rate in rates]))])
    losses = losses_of(problems, make, steps, "test", count, seed=0)(best)
    return Curve(name, steps, best, losses)


def learned(
    name: str,
    problems: Problems,
    optimizer: optax.GradientTransformation,
    steps: int,
    count: int,
) -> Curve:
    """The curve of a learned optimizer."""
    losses = losses_of(problems, lambda _: optimizer, steps, "test", count, seed=0)(0.0)
    return Curve(name, steps, None, losses)


class Movement(NamedTuple):
    """How an optimizer moved one coordinate of a network, on the first test task.

    Attributes:
      name: of the optimizer.
      gradient: ``[steps]``, before each step.
      update: ``[steps]``.
    """

    name: str
    gradient: np.ndarray
    update: np.ndarray


def movement(
    name: str, problems: Problems, optimizer: optax.GradientTransformation, steps: int
) -> Movement:
    """How an optimizer moves the coordinate that it moves farthest."""
    source, model = problems.sources["test"], problems.model
    sample = source.episodes(**problems.protocol)
    learner = from_scratch(
        model, inner=unroll(optimizer, steps, first_order=True), loss=problems.loss
    )
    walk = learner.path
    assert walk is not None
    # The first of the tasks that losses_of draws.
    task_key, adapt_key = jax.random.split(jax.random.split(streams(0).test, 2)[0])
    support = sample(source.data, task_key).support
    x, y, mask = support

    @jax.jit
    def walked(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        rows, _ = walk((), (), support, key)
        state = jax.tree.map(lambda leaf: leaf[0], rows.state)

        def loss(fast: Any) -> jax.Array:
            return problems.loss(model.apply(fast, state, x, mask)[0], y, mask)

        fast = rows.adapted.fast
        return _flat(fast), _flat(jax.lax.map(jax.grad(loss), fast))

    places, gradients = (np.asarray(each) for each in walked(adapt_key))
    updates = np.diff(places, axis=0)
    farthest = int(np.argmax(np.abs(updates).sum(axis=0)))
    return Movement(name, gradients[:-1, farthest], updates[:, farthest])


def _flat(rows: Any) -> jax.Array:
    """Rows of all coordinates, ``[steps, coordinates]``."""
    leaves = [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(rows)]
    return jax.numpy.concatenate(leaves, axis=1)


def row(curve: Curve, reference: Curve) -> dict[str, Any]:
    """What the table says of a curve; differences are of logarithms to the base 10."""
    last, base = (np.asarray(each.losses[:, -1], np.float64) for each in (curve, reference))
    diverged = ~np.isfinite(last) | (last > curve.losses[:, 0])
    both = np.isfinite(last) & np.isfinite(base) & (last > 0) & (base > 0)
    apart = None
    if curve is not reference and both.sum() > 1:
        apart = summarize(np.log10(last[both]) - np.log10(base[both]))._asdict()
    return {
        "optimizer": curve.name,
        "steps": curve.steps,
        "rate": curve.rate,
        "loss": final(curve.losses),
        "log10": float(np.log10(final(curve.losses))),
        "diverged": float(diverged.mean()),
        "apart": apart,
    }


def table(rows: Sequence[Mapping[str, Any]], reference: str) -> str:
    """The table in Markdown."""
    head = ["optimizer", "steps", "rate", "loss", "log10 of it", f"log10 over `{reference}`"]
    head.append("diverged, %")
    lines = [head, ["---"] * len(head)]
    for each in rows:
        apart = each["apart"]
        lines.append(
            [
                f"`{each['optimizer']}`",
                f"{each['steps']:,}",
                "" if each["rate"] is None else f"{each['rate']:.2g}",
                f"{each['loss']:.3g}",
                f"{each['log10']:.2f}",
                "" if apart is None else f"{apart['mean']:+.2f} ± {apart['ci95']:.2f}",
                f"{100 * each['diverged']:.1f}",
            ]
        )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def write(
    folder: Path, curves: Sequence[Curve], reference: str, movements: Sequence[Movement] = ()
) -> str:
    """Writes ``optimizers.json``, ``.md`` and the pictures, and returns the table."""
    folder.mkdir(parents=True, exist_ok=True)
    bases = {curve.steps: curve for curve in curves if curve.name == reference}
    rows = [row(curve, bases[curve.steps]) for curve in curves]
    text = table(rows, reference)
    (folder / "optimizers.json").write_text(json.dumps({"rows": rows}, indent=2))
    (folder / "optimizers.md").write_text(text)
    plots.optimizers(folder, curves)
    if movements:
        plots.movements(folder, movements)
    return text
