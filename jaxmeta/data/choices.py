"""Which examples a task has, drawn without reading any."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.checks import check_count
from jaxmeta.data.sampling import distinct_of_many
from jaxmeta.types import Array, Batch, Episode, Key, PyTree


class ClassData(NamedTuple):
    """Examples sorted by class.

    Attributes:
      examples: any pytree of arrays ``[n, ...]``; ``()`` where examples are read when needed.
      starts: int32 ``[classes]``, where each class begins in ``examples``.
      counts: int32 ``[classes]``, the number of examples of each class.
    """

    examples: PyTree
    starts: Array
    counts: Array


class Choice(NamedTuple):
    """Which examples a task has, and everything else about it except their content.

    Attributes:
      rows: int32 ``[m]``, the examples of each :class:`~jaxmeta.types.Batch` of the task, one batch
        after another (for an episode, the support set first); -1 for padding.
      variants: int32 ``[m]``, the variant of each; ``None`` if there is only one.
      blank: the task, with ``()`` as the inputs ``x`` of every batch.
    """

    rows: Array
    variants: Array | None
    blank: PyTree


Choose = Callable[[ClassData, Key], Choice]
"""``(data, key) -> Choice``, pure; it reads ``starts`` and ``counts`` but no examples."""


def class_data(examples: PyTree, counts: np.ndarray) -> ClassData:
    """Examples sorted by class, and how many there are of each."""
    return ClassData(
        examples=examples,
        starts=jnp.asarray(np.cumsum(counts) - counts, jnp.int32),
        counts=jnp.asarray(counts, jnp.int32),
    )


def batch_choices(size: int, total: int, variants: int) -> Choose:
    """How ordinary batches are drawn: uniformly over examples and variants, with replacement."""
    check_count("size", size, least=1)

    def choose(data: ClassData, key: Key) -> Choice:
        row_key, variant_key = jax.random.split(key)
        rows = jax.random.randint(row_key, (size,), 0, total, jnp.int32)
        # The class of a row is the last one that starts at or before it; of classes that start at
        # the same row, all but the last are empty.
        y = variants * (jnp.searchsorted(data.starts, rows, side="right") - 1).astype(jnp.int32)
        variant = None
        if variants > 1:
            variant = jax.random.randint(variant_key, (size,), 0, variants, jnp.int32)
            y = y + variant
        return Choice(rows, variant, Batch((), y, jnp.ones(size, jnp.float32)))

    return choose


def whole_choices(total: int, variants: int) -> Choose:
    """How all examples are drawn, in every variant, in the order of the classes."""

    def choose(data: ClassData, key: Key) -> Choice:
        del key  # there is nothing to draw
        rows, variant = jnp.divmod(jnp.arange(total * variants, dtype=jnp.int32), variants)
        y = variants * (jnp.searchsorted(data.starts, rows, side="right") - 1).astype(jnp.int32)
        order = jnp.argsort(y + variant, stable=True)
        rows, variant, y = rows[order], variant[order], (y + variant)[order]
        mask = jnp.ones(rows.size, jnp.float32)
        return Choice(rows, variant if variants > 1 else None, Batch((), y, mask))

    return choose


def instance_choices(ways: int, shots: int, queries: int, total: int, variants: int) -> Choose:
    """How episodes are drawn whose classes are single examples, or variants of examples."""
    for name, value in (("ways", ways), ("shots", shots), ("queries", queries)):
        check_count(name, value, least=1)
    if ways > total:
        raise ValueError(
            f"An episode of {ways} instances needs {ways} examples and this split has {total}; "
            "ask for fewer ways."
        )

    def choose(data: ClassData, key: Key) -> Choice:
        del data  # only how many examples there are matters
        chosen = distinct_of_many(key, total, ways)

        def copies(values: Array) -> Array:
            return jnp.concatenate([jnp.repeat(values, shots), jnp.repeat(values, queries)])

        def blank(each: int) -> Batch:
            y = jnp.repeat(jnp.arange(ways, dtype=jnp.int32), each)
            return Batch((), y, jnp.ones(ways * each, jnp.float32))

        return Choice(
            copies(chosen // variants),
            copies(chosen % variants) if variants > 1 else None,
            Episode(blank(shots), blank(queries)),
        )

    return choose
