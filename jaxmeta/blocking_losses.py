r"""Losses that are small where predictions are of no use: what a model that resists learning wants.

A model that descends minus its adversary's cross-entropy diverges, as that has no bound, and may
cheat by exchanging labels, which keeps all that the predictions know. These losses are at least 0
and, but for :func:`inverse_cross_entropy`, exchanging labels does not lower them. Like those of
:mod:`jaxmeta.losses`, each is ``(outputs [n, ways], y [n], mask [n]) -> scalar``. Classes with a
logit of minus infinity are absent.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxmeta.losses import check_labeled, cross_entropy, masked_mean
from jaxmeta.types import Array


def entropy_deficit(outputs: Array, y: Array, mask: Array) -> Array:
    r"""How far predictions are from knowing nothing: :math:`\log C - H(p)`, in nats.

    It does not look at labels, and is 0 for the uniform distribution alone.

    Args:
      outputs: logits ``[n, ways]``.
      y: integer labels ``[n]``.
      mask: ``[n]``.

    Raises:
      ValueError: the shapes differ from these.

    References:
      Tamirisa et al., 2024, Tamper-Resistant Safeguards for Open-Weight LLMs (minus the entropy of
      the adapted model).

    >>> entropy_deficit(jnp.zeros((1, 4)), jnp.array([0]), jnp.ones(1)).item()
    0.0
    """
    check_labeled(outputs, y)
    present, log_p = _log_probabilities(outputs, mask)
    entropy = -jnp.sum(jnp.where(present, jnp.exp(log_p) * log_p, 0), axis=-1)
    return masked_mean(_log_classes(present, log_p) - entropy, mask)


def uniform_divergence(outputs: Array, y: Array, mask: Array) -> Array:
    r"""The divergence :math:`\mathrm{KL}(u \Vert p) = -\frac1C \sum_j \log(C p_j)`, in nats.

    Its derivative :math:`p_j - 1/C` dies out as the predictions become uniform. It does not look at
    labels.

    Args:
      outputs: logits ``[n, ways]``.
      y: integer labels ``[n]``.
      mask: ``[n]``.

    Raises:
      ValueError: the shapes differ from these.

    References:
      Deng et al., 2024, SOPHON: Non-Fine-Tunable Learning to Restrain Task Transferability for
      Pre-trained Models.

    >>> uniform_divergence(jnp.zeros((1, 4)), jnp.array([0]), jnp.ones(1)).item()
    0.0
    """
    check_labeled(outputs, y)
    present, log_p = _log_probabilities(outputs, mask)
    classes = jnp.sum(present, axis=-1).astype(outputs.dtype)
    values = -jnp.sum(log_p, axis=-1) / classes - _log_classes(present, log_p)
    return masked_mean(values, mask)


def inverse_cross_entropy(outputs: Array, y: Array, mask: Array) -> Array:
    r"""Inverse cross-entropy :math:`-\frac1n \sum_i \log(1 - p_{y_i})`, in nats.

    Its derivative with respect to the logit of the label is :math:`p_y`, and with respect to the
    others :math:`-p_j p_y / (1 - p_y)`, so it dies out as the predictions fail. It is small for
    predictions that are reliably wrong, which an adversary needs only relabel. The authors' code
    has another function, the cross-entropy of :math:`1 - z`.

    Args:
      outputs: logits ``[n, ways]``, of two ways or more.
      y: integer labels ``[n]``.
      mask: ``[n]``.

    Raises:
      ValueError: the shapes differ from these.

    References:
      Deng et al., 2024, SOPHON: Non-Fine-Tunable Learning to Restrain Task Transferability for
      Pre-trained Models.

    >>> value = inverse_cross_entropy(jnp.zeros((1, 2)), jnp.array([0]), jnp.ones(1))
    >>> f"{value:.3f}"
    '0.693'
    """
    check_labeled(outputs, y)
    outputs = _without_padding(outputs, mask)
    labels = jax.nn.one_hot(y, outputs.shape[1], dtype=outputs.dtype) > 0
    others = jnp.where(labels, -jnp.inf, outputs)
    values = jax.nn.logsumexp(outputs, axis=-1) - jax.nn.logsumexp(others, axis=-1)
    return masked_mean(values, mask)


def calibrated_deficit(outputs: Array, y: Array, mask: Array) -> Array:
    r"""What the best recombination of the logits gains over guessing, in nats.

    .. math:: \log C - \min_{-1 \leq W \leq 1} \mathrm{CE}(W z)

    The calibration W, ``[C, C]``, undoes exchanged labels. Minus its cross-entropy, which its
    authors maximize, is this up to the constant, and so bounded: W may be 0. As W is a minimum, its
    own derivative does not count.

    Args:
      outputs: logits ``[n, ways]``.
      y: integer labels ``[n]``.
      mask: ``[n]``.

    Raises:
      ValueError: the shapes differ from these.

    References:
      Henderson et al., 2023, Self-Destructing Models: Increasing the Costs of Harmful Dual Uses of
      Foundation Models.

    >>> always_wrong = 9 * (1 - jnp.eye(2))
    >>> f"{calibrated_deficit(always_wrong, jnp.arange(2), jnp.ones(2)):.2f}"
    '0.69'
    """
    check_labeled(outputs, y)
    outputs = _without_padding(outputs, mask)
    present = outputs != -jnp.inf
    finite = jnp.where(present, outputs, 0)

    def error(weights: Array, logits: Array) -> Array:
        recombined = jnp.where(present, logits @ weights.T, -jnp.inf)
        return cross_entropy(recombined, y, mask)

    weights = jax.lax.stop_gradient(_in_box(error, jax.lax.stop_gradient(finite), mask))
    chance = masked_mean(_log_classes(present, outputs), mask)
    return chance - error(weights, finite)


def _log_probabilities(outputs: Array, mask: Array) -> tuple[Array, Array]:
    """Which classes are present, and the logarithms of their probabilities, 0 for the others."""
    outputs = _without_padding(outputs, mask)
    present = outputs != -jnp.inf
    return present, jnp.where(present, jax.nn.log_softmax(outputs), 0)


def _without_padding(outputs: Array, mask: Array) -> Array:
    """Zeros in place of padding, whose derivative could otherwise be NaN."""
    return jnp.where(mask[:, None] > 0, outputs, 0)


CALIBRATION_STEPS = 300


def _in_box(error: Callable[[Array, Array], Array], logits: Array, mask: Array) -> Array:
    """The matrix between -1 and 1 with the least error, by accelerated projected gradients."""
    # The curvature of a softmax is at most 1/2, and that of W no more than so often |z|^2.
    curvature = masked_mean(jnp.sum(logits**2, axis=-1), mask) / 2
    rate = 1 / jnp.maximum(curvature, 1e-6)
    start = jnp.zeros((logits.shape[1], logits.shape[1]), logits.dtype)

    def step(carry: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], None]:
        weights, ahead, count = carry
        slope = jax.grad(error)(ahead, logits)
        new = jnp.clip(ahead - rate * slope, -1, 1)
        # Momentum that leads uphill starts anew.
        count = jnp.where(jnp.sum(slope * (new - weights)) > 0, 0, count)
        return (new, new + count / (count + 3) * (new - weights), count + 1), None

    begun = (start, start, jnp.zeros((), logits.dtype))
    (weights, _, _), _ = jax.lax.scan(step, begun, length=CALIBRATION_STEPS)
    return weights


def _log_classes(present: Array, like: Array) -> Array:
    """The logarithm of the number of classes present, for each example."""
    return jnp.log(jnp.sum(present, axis=-1).astype(like.dtype))
