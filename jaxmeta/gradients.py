"""Estimators of the outer gradient, written for any Objective."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxmeta.memory import tasks_at_a_time
from jaxmeta.types import Array, Aux, Key, Objective, PyTree

Gradient = Callable[[PyTree, PyTree, PyTree, Key], tuple[PyTree, Aux]]
"""``(params, state, batch, keys) -> (gradient, Aux)``; ``batch`` and ``keys`` share an axis."""


def mean_gradient(objective: Objective, chunk: int | None = None) -> Gradient:
    r"""The gradient of the mean loss, :math:`\nabla \frac1k \sum_i \ell_i(\theta)`.

    Args:
      objective: the losses.
      chunk: how many losses are computed at a time; the gradient is accumulated over chunks in a
        scan, so memory is that of one chunk. ``None`` chooses as many as fit into the memory: see
        :mod:`jaxmeta.memory`.

    Returns:
      The gradient function.

    Raises:
      ValueError: when called, the batch is not a whole number of chunks.
    """

    def mean_loss(params: PyTree, state: PyTree, batch: PyTree, keys: Key) -> tuple[Array, Aux]:
        losses, aux = objective(params, state, batch, keys)
        return jnp.mean(losses), aux

    all_at_once = jax.grad(mean_loss, has_aux=True)

    def gradient(params: PyTree, state: PyTree, batch: PyTree, keys: Key) -> tuple[PyTree, Aux]:
        total = keys.shape[0]
        size = chunk or fitting_chunk(objective, params, state, batch, keys)
        if size == total:
            return all_at_once(params, state, batch, keys)
        if total % size:
            raise ValueError(
                f"A batch of {total} cannot be cut into chunks of {size}: choose a divisor."
            )
        cut = jax.tree.map(
            lambda leaf: leaf.reshape(total // size, size, *leaf.shape[1:]), (batch, keys)
        )

        def add(total_gradient: PyTree, part: PyTree) -> tuple[PyTree, Aux]:
            gradient, aux = all_at_once(params, state, *part)
            return jax.tree.map(jnp.add, total_gradient, gradient), aux

        zeros = jax.tree.map(jnp.zeros_like, params)
        summed, auxes = jax.lax.scan(add, zeros, cut)
        mean = jax.tree.map(lambda leaf: leaf * (size / total), summed)
        return mean, jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), auxes)

    return gradient


def fitting_chunk(
    objective: Objective, params: PyTree, state: PyTree, batch: PyTree, keys: Key
) -> int:
    """How many losses :func:`mean_gradient` computes at a time by itself, a divisor of all."""
    total = keys.shape[0]
    one = jax.tree.map(lambda leaf: leaf[:1], (batch, keys))
    most = tasks_at_a_time(objective, params, state, *one, tasks=total)
    return max(size for size in range(1, most + 1) if total % size == 0)
