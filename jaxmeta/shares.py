"""Cutting a batch into equal shares, the last filled up with masked copies of its last item."""

import jax
import jax.numpy as jnp

from jaxmeta.types import Array, PyTree


def cut(items: PyTree, count: int, mask: Array | None = None) -> tuple[PyTree, Array | None]:
    """Cuts items ``[k, ...]`` into ``count`` shares ``[count, ceil(k / count), ...]``, in order.

    Args:
      items: a pytree of arrays with one leading axis.
      count: how many shares.
      mask: ``[k]``, 0 for items that are padding already; ``None`` is all ones.

    Returns:
      The shares, and the mask of their items ``[count, ceil(k / count)]``; ``None`` where all are
      items, so that nobody computes with ones.
    """
    total = jax.tree.leaves(items)[0].shape[0]
    each = -(-total // count)
    if each * count != total:
        places = jnp.arange(each * count)
        last = jnp.minimum(places, total - 1)
        items = jax.tree.map(lambda leaf: leaf[last], items)
        mask = (places < total).astype(jnp.float32) * (1 if mask is None else mask[last])
    return jax.tree.map(lambda leaf: leaf.reshape(count, each, *leaf.shape[1:]), (items, mask))


def mean_over(values: PyTree, mask: Array | None) -> PyTree:
    """The means over the leading axis of the values with mask 1; zero where there are none."""
    if mask is None:
        return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), values)
    share = mask / jnp.maximum(jnp.sum(mask), 1)
    return jax.tree.map(lambda leaf: jnp.tensordot(share.astype(leaf.dtype), leaf, 1), values)
