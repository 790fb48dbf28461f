"""Functions of many tasks, computed a few tasks at a time.

A :data:`Mapped` function computes many tasks and returns what is summed over them and what stays
with each. A :data:`Spread` turns it into another such function, which computes the same in chunks
(:func:`in_chunks`) or on many devices (:mod:`jaxmeta.distributed.parallel`). Weights, and the
padding of a last chunk or share, are handled here and nowhere else.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxmeta.distributed.varying import zeros_like_shapes
from jaxmeta.types import Array, PyTree

Mapped = Callable[[PyTree, PyTree, Array], tuple[PyTree, PyTree]]
"""``(common, items [k, ...], weights [k]) -> (weighted sums, per task [k, ...])``."""

Spread = Callable[[Mapped], Mapped]
"""Makes a function that computes the same values elsewhere, or a part at a time."""


def one_device(mapped: Mapped) -> Mapped:
    """All tasks at once, on one device."""
    return mapped


def in_chunks(size: int) -> Spread:
    """Computes ``size`` tasks at a time, in a scan that adds up the sums.

    The last chunk is padded with copies of the last task of weight 0, so all chunks share one
    program, and memory is that of one chunk.

    Args:
      size: the largest number of tasks in a chunk.

    >>> def doubled(common, items, weights):
    ...     return jnp.sum(weights * items), 2 * items
    >>> total, per_task = in_chunks(2)(doubled)((), jnp.arange(3.0), jnp.ones(3))
    >>> total.item(), per_task.tolist()
    (3.0, [0.0, 2.0, 4.0])
    """

    def spread(mapped: Mapped) -> Mapped:
        # Traced for its shapes below and again by the scan: jit caches the first trace.
        once = jax.jit(mapped)

        def chunked(common: PyTree, items: PyTree, weights: Array) -> tuple[PyTree, PyTree]:
            total = weights.shape[0]
            parts = -(-total // size)
            if parts == 1:
                return mapped(common, items, weights)
            padded = pad(items, weights, parts)
            chunks = jax.tree.map(lambda leaf: divide(leaf, parts), padded)

            def add(sums: PyTree, chunk: tuple[PyTree, Array]) -> tuple[PyTree, PyTree]:
                more, per_task = once(common, *chunk)
                return jax.tree.map(jnp.add, sums, more), per_task

            first = jax.tree.map(lambda leaf: leaf[0], chunks)
            sums, per_task = jax.lax.scan(
                add, zeros_like_shapes(jax.eval_shape(once, common, *first)[0]), chunks
            )
            return sums, jax.tree.map(lambda leaf: join(leaf)[:total], per_task)

        return chunked

    return spread


def pad(items: PyTree, weights: Array, parts: int) -> tuple[PyTree, Array]:
    """Pads ``items [k, ...]`` with copies of the last, of weight 0, to parts of equal size.

    >>> items, weights = pad(jnp.arange(3), jnp.full(3, 1 / 3), parts=2)
    >>> items.tolist(), weights.tolist()[3:]
    ([0, 1, 2, 2], [0.0])
    """
    total = weights.shape[0]
    places = jnp.arange(-(-total // parts) * parts)
    if places.size == total:
        return items, weights
    last = jnp.minimum(places, total - 1)
    items = jax.tree.map(lambda leaf: leaf[last], items)
    return items, jnp.where(places < total, weights[last], 0)


def divide(leaf: Array, parts: int) -> Array:
    """``[parts * each, ...]`` to ``[parts, each, ...]``."""
    # Not -1, which says nothing of an empty leaf, such as a support set without examples.
    return leaf.reshape(parts, leaf.shape[0] // parts, *leaf.shape[1:])


def join(parts: Array) -> Array:
    """``[parts, each, ...]`` to ``[parts * each, ...]``."""
    return parts.reshape(parts.shape[0] * parts.shape[1], *parts.shape[2:])


def even_weights(tasks: int) -> Array:
    """Weights ``[tasks]``, each a task's share of the mean."""
    return jnp.full(tasks, 1 / tasks, jnp.float32)


def weighted_sum(values: PyTree, weights: Array) -> PyTree:
    """Sums over the leading axis, weighted: the mean, where the weights sum to 1.

    Args:
      values: a pytree of arrays ``[k, ...]``. Arrays of fewer than 32 bits or of integers are
        summed as float32.
      weights: ``[k]``.
    """

    def total(leaf: Array) -> Array:
        exact = jnp.issubdtype(leaf.dtype, jnp.floating) and jnp.finfo(leaf.dtype).bits >= 32
        leaf = leaf if exact else leaf.astype(jnp.float32)
        # Not a matrix product, which accelerators round to fewer bits.
        column = weights.astype(leaf.dtype).reshape(-1, *[1] * (leaf.ndim - 1))
        return jnp.sum(column * leaf, axis=0)

    return jax.tree.map(total, values)


def vmap_tasks(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """``vmap`` of ``(common, *items)`` over the leading axis of the items.

    A single task is computed without that axis, as it would keep XLA from fusing some operations.
    """

    @functools.wraps(function)
    def mapped(common: PyTree, *items: PyTree) -> PyTree:
        if jax.tree.leaves(items)[0].shape[0] == 1:
            alone = function(common, *jax.tree.map(lambda leaf: leaf[0], items))
            return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], alone)
        return jax.vmap(function, in_axes=(None, *[0] * len(items)))(common, *items)

    return mapped
