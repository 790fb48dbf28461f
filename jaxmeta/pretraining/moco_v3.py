"""MoCo v3: contrast between predictions and a teacher's outputs for the other views."""

import jax.numpy as jnp

from jaxmeta.checks import check_positive
from jaxmeta.learners.frames.support import MASK_VALUE, cosine_similarities
from jaxmeta.losses import cross_entropy
from jaxmeta.pretraining.prediction import prediction
from jaxmeta.pretraining.shapes import check_shapes
from jaxmeta.pretraining.teacher import Momentum, check_momentum
from jaxmeta.types import Array, Model, Objective


def moco_v3(
    model: Model,
    projector: Model,
    predictor: Model,
    *,
    momentum: Momentum = 0.99,
    temperature: float = 0.2,
    decay: float = 0.9,
) -> Objective:
    r"""Picking the teacher's projection of the other view among the batch's, by :func:`info_nce`.

    .. math:: 2 \tau \big(\mathrm{InfoNCE}(p, \bar z') + \mathrm{InfoNCE}(p', \bar z)\big)

    Args:
      model: the encoder.
      projector: the network on top of it; a :func:`jaxmeta.nn.projector` of one or two hidden
        layers.
      predictor: the network on top of that; a :func:`jaxmeta.nn.projector` of one hidden layer.
      momentum: the share of itself that the teacher keeps at each step, or a schedule of it.
      temperature: tau, applied to the cosines.
      decay: as in :func:`jaxmeta.pretraining.prediction`.

    Returns:
      An objective over batches of two views; see :func:`jaxmeta.pretraining.prediction`.

    Raises:
      ValueError: the temperature is not positive, or as for
        :func:`jaxmeta.pretraining.prediction`.

    References:
      Chen, Xie and He, 2021, An Empirical Study of Training Self-Supervised Vision Transformers,
      section 3 and algorithm 1.

    >>> from jaxmeta.nn import conv4, projector
    >>> objective = moco_v3(conv4(), projector(128), projector(128))
    """
    check_momentum(momentum)
    check_positive("temperature", temperature)

    def loss(predictions: Array, targets: Array, mask: Array) -> Array:
        return 2 * temperature * info_nce(predictions, targets, mask, temperature)

    return prediction(model, projector, predictor, loss, momentum, decay)


def info_nce(queries: Array, keys: Array, mask: Array, temperature: float = 0.2) -> Array:
    r"""The cross-entropy of picking each query's own key among all keys, in nats.

    .. math:: -\frac1n \sum_i \log
              \frac{e^{\cos(q_i, k_i) / \tau}}{\sum_j e^{\cos(q_i, k_j) / \tau}}

    It is the loss of a one-shot episode whose classes are single images.

    Args:
      queries: q, ``[n, d]``.
      keys: k, ``[n, d]``.
      mask: ``[n]``; padding is neither a query nor a key.
      temperature: tau.

    Raises:
      ValueError: the shapes differ from these.

    References:
      van den Oord, Li and Vinyals, 2018, Representation Learning with Contrastive Predictive
      Coding, equation 4.

    >>> alike = jnp.ones((3, 2))
    >>> jnp.exp(info_nce(alike, alike, jnp.ones(3))).round(4).item()
    3.0
    """
    check_shapes("queries [n, d], keys [n, d] and mask [n]", queries, keys, mask)
    similar = cosine_similarities(queries, keys) / temperature
    logits = jnp.where(mask[None] > 0, similar, MASK_VALUE)
    return cross_entropy(logits, jnp.arange(mask.size), mask)
