"""Cutting a batch into equal shares, the last filled up with copies that weigh 0."""

import jax
import jax.numpy as jnp

from jaxmeta.types import Array, PyTree


def cut(items: PyTree, count: int, weights: Array | None = None) -> tuple[PyTree, Array | None]:
    """Cuts items ``[k, ...]`` into ``count`` shares ``[count, ceil(k / count), ...]``, in order.

    Args:
      items: a pytree of arrays with one leading axis.
      count: how many shares.
      weights: ``[k]``, as for :func:`weighted`.

    Returns:
      The shares, and the weights of their items ``[count, ceil(k / count)]``; ``None`` where they
      were ``None`` and nothing had to be filled up, so that nobody multiplies for nothing.
    """
    total = jax.tree.leaves(items)[0].shape[0]
    each = -(-total // count)
    if each * count != total:
        places = jnp.arange(each * count)
        last = jnp.minimum(places, total - 1)
        items = jax.tree.map(lambda leaf: leaf[last], items)
        weights = jnp.where(places < total, 1 / total if weights is None else weights[last], 0.0)
    return jax.tree.map(lambda leaf: leaf.reshape(count, each, *leaf.shape[1:]), (items, weights))


def given(weights: Array | None) -> tuple[Array, ...]:
    """Weights as a last argument, left out where there are none, for functions that take none."""
    return () if weights is None else (weights,)


def weighted(values: PyTree, weights: Array | None) -> PyTree:
    """The weighted sums over the leading axis, and the means where ``weights`` is ``None``.

    Args:
      values: a pytree of arrays ``[k, ...]``.
      weights: ``[k]``, 0 for padding; they sum to 1 over all shares of a batch, so that what comes
        of shares has only to be added.
    """
    if weights is None:
        return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), values)

    def total(leaf: Array) -> Array:
        column = weights.astype(leaf.dtype).reshape(-1, *[1] * (leaf.ndim - 1))
        return jnp.sum(column * leaf, axis=0)

    return jax.tree.map(total, values)
