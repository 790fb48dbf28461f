"""What a trained generator imagines, beside real examples: measured, and in the plane."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta import probes
from jaxmeta.nn import power
from jaxmeta.runs.spec import build
from jaxmeta.types import Array, Key, Model, PyTree, Source

from .configs import hallucination

SEEDS, DRAWN = 20, 50


class Imagined(NamedTuple):
    """Features, to the power that learners see, of some classes.

    Attributes:
      real: ``[classes, n, d]``.
      seeds: ``[classes, seeds, d]``, real examples that are not among them.
      drawn: ``[classes, seeds, drawn, d]``, what the generator made of each.
    """

    real: np.ndarray
    seeds: np.ndarray
    drawn: np.ndarray


def check_examples(source: Source) -> None:
    """Raises ``ValueError`` if a class has too few examples to compare with."""
    least = int(np.asarray(source.data.counts).min())
    if least < SEEDS + 2:
        raise ValueError(
            f"A test class has {least} examples, and {SEEDS} seeds are compared with others: give "
            f"features of {SEEDS + 2} or more of each."
        )


def imagine(params: PyTree, source: Source, classes: int, key: Key) -> Imagined:
    """Draws from a generator.

    Args:
      params: of the generator, as a run of :mod:`experiments.configs.hallucination` leaves them.
      source: features of classes that it has not seen.
      classes: how many of these, the first ones.
      key: of the noise.
    """
    batch = probes.all_examples(source)
    x, y = power(0.5).apply({}, {}, batch.x)[0], np.asarray(batch.y)
    rows = [np.flatnonzero(y == each) for each in range(classes)]
    most = min(len(own) for own in rows)
    own = x[jnp.asarray(np.stack([each[:most] for each in rows]))]
    seeds, real = own[:, :SEEDS], own[:, SEEDS:]
    z = jax.random.normal(key, (DRAWN, hallucination.NOISE), jnp.float32)
    generator: Model = build(hallucination.GENERATOR)

    def of_seed(seed: Array) -> Array:
        inputs = jnp.concatenate([jnp.broadcast_to(seed, (DRAWN, seed.size)), z], axis=1)
        return generator.apply(params, {}, inputs)[0]

    drawn = jax.jit(jax.vmap(jax.vmap(of_seed)))(seeds)
    return Imagined(*(np.asarray(each, np.float64) for each in (real, seeds, drawn)))


def realism(found: Imagined) -> dict[str, float]:
    """How far imagined examples are from real ones of the same class.

    Returns:
      ``variance``, that of what is imagined of one seed as a share of that of the class, and
      ``energy`` distances between the real examples of the class and what is imagined of one seed,
      ``of_generator``, or the seed alone, ``of_copies``; as means over classes and seeds.
    """
    within = found.real.var(axis=1, ddof=1).sum(axis=-1)
    drawn = found.drawn.var(axis=2, ddof=1).sum(axis=-1)
    energies: dict[str, list[float]] = {"of_generator": [], "of_copies": []}
    for real, seeds, of_class in zip(*found, strict=True):
        among = among_each_other(real)
        for seed, own in zip(seeds, of_class, strict=True):
            for name, sample in (("of_generator", own), ("of_copies", seed[None])):
                inside = among_each_other(sample)
                energies[name].append(2 * mean_distance(real, sample) - among - inside)
    means = {f"energy_{name}": float(np.mean(values)) for name, values in energies.items()}
    return {"variance": float((drawn.mean(axis=1) / within).mean()), **means}


def mean_distance(one: np.ndarray, other: np.ndarray) -> float:
    """The mean Euclidean distance between two sets of rows."""
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2 * one @ other.T
    return float(np.sqrt(np.maximum(squares, 0)).mean())


def among_each_other(rows: np.ndarray) -> float:
    """The mean distance between two different rows; 0 of a single one."""
    return mean_distance(rows, rows) * len(rows) / max(len(rows) - 1, 1)
