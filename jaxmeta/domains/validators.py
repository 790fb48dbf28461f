"""Metrics that need no labels, to choose between models for a domain that has none."""

import jax
import jax.numpy as jnp

from jaxmeta.losses import masked_mean
from jaxmeta.types import Array


def prediction_entropy(outputs: Array, y: Array, mask: Array) -> Array:
    r"""The mean entropy of predictions, in nats; low when the classifier is sure.

    .. math:: \operatorname*{mean}_i H(p_i), \qquad p_i = \mathrm{softmax}(z_i)

    It is lowest for a classifier that surely puts everything into one class, which
    :func:`mutual_information` is not.

    Args:
      outputs: logits ``[n, classes]``.
      y: ignored; metrics have labels.
      mask: ``[n]``.

    References:
      Morerio, Cavazza and Murino, 2018, Minimal-Entropy Correlation Alignment for Unsupervised Deep
      Domain Adaptation.

    >>> (prediction_entropy(jnp.zeros((3, 4)), jnp.zeros(3), jnp.ones(3)) / jnp.log(4)).item()
    1.0
    """
    logs = jax.nn.log_softmax(outputs)
    return masked_mean(-jnp.sum(jnp.exp(logs) * logs, axis=1), mask)


def mutual_information(outputs: Array, y: Array, mask: Array) -> Array:
    r"""The mutual information of inputs and predictions, in nats; high if sure and diverse.

    .. math:: H\big(\operatorname*{mean}_i p_i\big) - \operatorname*{mean}_i H(p_i)

    Args:
      outputs: logits ``[n, classes]``.
      y: ignored; metrics have labels.
      mask: ``[n]``.

    References:
      Bridle, Heading and MacKay, 1992, Unsupervised Classifiers, Mutual Information and Phantom
      Targets.

    >>> sure = 50 * jnp.eye(2)
    >>> (mutual_information(sure, jnp.zeros(2), jnp.ones(2)) / jnp.log(2)).item()
    1.0
    """
    weights = mask / jnp.maximum(jnp.sum(mask), 1)
    mean = jnp.sum(jax.nn.softmax(outputs) * weights[:, None], axis=0)
    diversity = -jnp.sum(jax.scipy.special.xlogy(mean, mean))
    return diversity - prediction_entropy(outputs, y, mask)
