"""BYOL: a network predicts its own moving average's output for another view."""

import jax.numpy as jnp

from jaxmeta.learners.frames.support import to_unit_length
from jaxmeta.losses import masked_mean
from jaxmeta.pretraining.prediction import prediction
from jaxmeta.pretraining.shapes import check_shapes
from jaxmeta.pretraining.teacher import Momentum, check_momentum
from jaxmeta.types import Array, Model, Objective


def byol(
    model: Model,
    projector: Model,
    predictor: Model,
    *,
    momentum: Momentum = 0.99,
    decay: float = 0.9,
) -> Objective:
    r"""Prediction of the teacher's projection of the other view, by :func:`byol_loss`.

    Args:
      model: the encoder.
      projector: the network on top of it; a :func:`jaxmeta.nn.projector` of one hidden layer.
      predictor: the network on top of that; another.
      momentum: the share of itself that the teacher keeps at each step, or a schedule of it, such
        as :func:`jaxmeta.pretraining.rising`.
      decay: as in :func:`jaxmeta.pretraining.prediction`.

    Returns:
      An objective over batches of two views; see :func:`jaxmeta.pretraining.prediction`.

    Raises:
      ValueError: as for :func:`jaxmeta.pretraining.prediction`.

    References:
      Grill et al., 2020, Bootstrap Your Own Latent, section 3.1. The teacher starts as a copy of
      the network.

    >>> from jaxmeta.nn import conv4, projector
    >>> from jaxmeta.pretraining import rising
    >>> momentum = rising(0.99, steps=10_000)
    >>> objective = byol(conv4(), projector(128), projector(128), momentum=momentum)
    """
    check_momentum(momentum)
    return prediction(model, projector, predictor, byol_loss, momentum, decay)


def byol_loss(predictions: Array, targets: Array, mask: Array) -> Array:
    r"""The mean squared distance of predictions and targets scaled to unit length.

    .. math:: \frac1n \sum_k \lVert \hat p_k - \hat z_k \rVert^2
              = 2 - \frac2n \sum_k \cos(p_k, z_k)

    Args:
      predictions: p, ``[n, d]``.
      targets: z, ``[n, d]``; gradients pass through them unless they are stopped.
      mask: ``[n]``; padding is ignored.

    Raises:
      ValueError: the shapes differ from these.

    References:
      Grill et al., 2020, equation 2.

    >>> byol_loss(jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 3.0]]), jnp.ones(1)).round(4).item()
    2.0
    """
    check_shapes("predictions [n, d], targets [n, d] and mask [n]", predictions, targets, mask)
    cosines = jnp.sum(to_unit_length(predictions) * to_unit_length(targets), axis=-1)
    return masked_mean(2 - 2 * cosines, mask)
