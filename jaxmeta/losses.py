"""Losses and metrics of one task: mask-aware, with no batch of tasks in sight.

Each is ``(outputs [n, ...], y [n, ...], mask [n]) -> scalar``, the mean over the examples whose
mask is 1, and 0 when there are none.
"""

import jax
import jax.numpy as jnp

from jaxmeta.types import Array


def masked_mean(values: Array, mask: Array) -> Array:
    """Mean of ``values`` ``[n]`` where ``mask`` ``[n]`` is 1; 0 when it is nowhere 1."""
    mask = mask.astype(values.dtype)
    return jnp.sum(values * mask) / jnp.maximum(jnp.sum(mask), 1)


def cross_entropy(outputs: Array, y: Array, mask: Array) -> Array:
    r"""Cross-entropy :math:`-\frac1n\sum_i \log\mathrm{softmax}(z_i)_{y_i}`, in nats.

    Args:
      outputs: logits ``[n, ways]``.
      y: integer labels ``[n]`` in ``[0, ways)``.
      mask: ``[n]``.
    """
    log_probabilities = jax.nn.log_softmax(outputs)
    chosen = jnp.take_along_axis(log_probabilities, y[:, None], axis=-1)[:, 0]
    # A padded example may carry the label of an absent class, whose log-probability is -inf.
    return -masked_mean(jnp.where(mask > 0, chosen, 0), mask)


def squared_error(outputs: Array, y: Array, mask: Array) -> Array:
    r"""Mean squared error :math:`\frac1{nd}\sum_{ij} (z_{ij} - y_{ij})^2` of ``[n, d]`` values."""
    return masked_mean(jnp.mean((outputs - y) ** 2, axis=-1), mask)


def accuracy(outputs: Array, y: Array, mask: Array) -> Array:
    """Fraction in ``[0, 1]`` of examples whose largest logit ``[n, ways]`` is that of the label."""
    return masked_mean((jnp.argmax(outputs, axis=-1) == y).astype(outputs.dtype), mask)
