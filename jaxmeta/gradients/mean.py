"""Estimators of the outer gradient, written for any Objective."""

from typing import Protocol

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.distributed.memory import tasks_at_a_time
from jaxmeta.distributed.microbatches import cut, given, weighted
from jaxmeta.distributed.varying import varying_alike
from jaxmeta.types import Array, Aux, Key, Objective, PyTree


class Gradient(Protocol):
    """An estimator of the outer gradient."""

    def __call__(
        self,
        params: PyTree,
        state: PyTree,
        batch: PyTree,
        keys: Key,
        weights: Array | None = None,
        /,
    ) -> tuple[PyTree, Aux]:
        """The gradient and ``Aux``, weighed sums over the tasks; see :class:`Objective`."""


def mean_gradient(objective: Objective, chunk: int | None = None) -> Gradient:
    r"""The gradient of the mean loss, :math:`\nabla \frac1k \sum_i \ell_i(\theta)`.

    Args:
      objective: the losses.
      chunk: how many losses are computed at a time, at most; the gradient is accumulated over
        chunks of one size in a scan, the last filled up with tasks that weigh 0, so memory is that
        of one chunk. ``None`` chooses as many as fit into the memory: see
        :mod:`jaxmeta.distributed.memory`.

    Returns:
      The gradient function.

    Raises:
      ValueError: ``chunk`` is no count.
    """
    if chunk is not None:
        check_count("chunk", chunk, least=1)

    def mean_loss(
        params: PyTree, state: PyTree, batch: PyTree, keys: Key, weights: Array | None
    ) -> tuple[Array, Aux]:
        losses, aux = objective(params, state, batch, keys, *given(weights))
        return weighted(losses, weights), aux

    all_at_once = jax.grad(mean_loss, has_aux=True)

    def gradient(
        params: PyTree, state: PyTree, batch: PyTree, keys: Key, weights: Array | None = None
    ) -> tuple[PyTree, Aux]:
        # In a shard_map, so that the gradient is that of the device's own tasks.
        params, state, batch, keys, weights = varying_alike(params, state, batch, keys, weights)
        size = chunk or fitting_chunk(objective, params, state, batch, keys)
        parts = -(-keys.shape[0] // size)
        if parts == 1:
            return all_at_once(params, state, batch, keys, weights)
        (batches, key_parts), weight_parts = cut((batch, keys), parts, weights)

        def add(total: PyTree, part: PyTree) -> tuple[PyTree, Aux]:
            gradient, aux = all_at_once(params, state, *part)
            return jax.tree.map(jnp.add, total, gradient), aux

        zeros = jax.tree.map(jnp.zeros_like, params)
        total, auxes = jax.lax.scan(add, zeros, (batches, key_parts, weight_parts))
        # Each part's is a mean of its own, or its share of the weighed sum.
        over = parts if weight_parts is None else 1
        total = jax.tree.map(lambda leaf: leaf / over, total)
        return total, jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0) / over, auxes)

    return gradient


def fitting_chunk(
    objective: Objective, params: PyTree, state: PyTree, batch: PyTree, keys: Key
) -> int:
    """How many losses :func:`mean_gradient` computes at a time by itself.

    As many as fit into the memory, and with which a tenth at most of what is computed is padding.
    """
    total = keys.shape[0]
    one = jax.tree.map(lambda leaf: leaf[:1], (batch, keys))
    most = tasks_at_a_time(objective, params, state, *one, tasks=total)
    computed = {size: -(-total // size) * size for size in range(1, most + 1)}
    return max(size for size in computed if computed[size] <= 1.1 * total)
