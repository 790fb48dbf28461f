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


def check_labelled(outputs: Array, y: Array) -> None:
    """Raises ``ValueError`` unless there is one label ``[n]`` for each row of ``[n, ways]``."""
    if outputs.ndim != 2 or y.shape != outputs.shape[:1]:
        raise ValueError(
            f"Logits have shape {outputs.shape} and labels {y.shape}: give logits [n, ways] and "
            "labels [n]."
        )


def cross_entropy(outputs: Array, y: Array, mask: Array) -> Array:
    r"""Cross-entropy :math:`-\frac1n\sum_i \log\mathrm{softmax}(z_i)_{y_i}`, in nats.

    Args:
      outputs: logits ``[n, ways]``.
      y: integer labels ``[n]`` in ``[0, ways)``.
      mask: ``[n]``.

    Raises:
      ValueError: the shapes are not these.
    """
    check_labelled(outputs, y)
    log_probabilities = jax.nn.log_softmax(outputs)
    chosen = jnp.take_along_axis(log_probabilities, y[:, None], axis=-1)[:, 0]
    # A padded example may carry the label of an absent class, whose log-probability is -inf.
    return -masked_mean(jnp.where(mask > 0, chosen, 0), mask)


def squared_error(outputs: Array, y: Array, mask: Array) -> Array:
    r"""Mean squared error :math:`\frac1{nd}\sum_{ij} (z_{ij} - y_{ij})^2` of ``[n, d]`` values.

    Raises:
      ValueError: outputs and targets differ in shape, and would be broadcast against each other.
    """
    if outputs.shape != y.shape or outputs.ndim != 2:
        raise ValueError(
            f"Outputs have shape {outputs.shape} and targets {y.shape}: give both as [n, d]."
        )
    return masked_mean(jnp.mean((outputs - y) ** 2, axis=-1), mask)


def accuracy(outputs: Array, y: Array, mask: Array) -> Array:
    """Fraction in ``[0, 1]`` of examples whose largest logit ``[n, ways]`` is that of the label.

    Raises:
      ValueError: there is not one label ``[n]`` for each row of logits.
    """
    check_labelled(outputs, y)
    return masked_mean((jnp.argmax(outputs, axis=-1) == y).astype(outputs.dtype), mask)
