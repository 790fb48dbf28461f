"""SimSiam: BYOL without a teacher; the targets are the network's own projections, held fixed."""

import jax.numpy as jnp

from jaxmeta.learners.frames.support import to_unit_length
from jaxmeta.losses import masked_mean
from jaxmeta.pretraining.prediction import prediction
from jaxmeta.pretraining.shapes import check_shapes
from jaxmeta.types import Array, Model, Objective


def simsiam(model: Model, projector: Model, predictor: Model, *, decay: float = 0.9) -> Objective:
    r"""Prediction of the network's own projection of the other view, by :func:`simsiam_loss`.

    Args:
      model: the encoder.
      projector: the network on top of it; a :func:`jaxmeta.nn.projector` with ``normalized=True``,
        of two hidden layers in the paper and one for CIFAR.
      predictor: the network on top of that; a :func:`jaxmeta.nn.projector` whose hidden layer is a
        quarter as wide as its outputs.
      decay: as in :func:`jaxmeta.pretraining.prediction`.

    Returns:
      An objective over batches of two views; see :func:`jaxmeta.pretraining.prediction`.

    Raises:
      ValueError: as for :func:`jaxmeta.pretraining.prediction`.

    References:
      Chen and He, 2021, Exploring Simple Siamese Representation Learning, section 3.

    >>> from jaxmeta.nn import conv4, projector
    >>> outer = projector(512, hidden=[512, 512], normalized=True)
    >>> objective = simsiam(conv4(), outer, projector(512, hidden=[128]))
    """
    return prediction(model, projector, predictor, simsiam_loss, None, decay)


def simsiam_loss(predictions: Array, targets: Array, mask: Array) -> Array:
    r"""Half the mean negative cosine, :math:`-\frac{1}{2n} \sum_k \cos(p_k, z_k)`.

    Args:
      predictions: p, ``[n, d]``.
      targets: z, ``[n, d]``; gradients pass through them unless they are stopped.
      mask: ``[n]``; padding is ignored.

    Raises:
      ValueError: the shapes differ from these.

    References:
      Chen and He, 2021, equation 2, of which this is the term for one view.

    >>> alike = jnp.array([[2.0, 0.0]])
    >>> simsiam_loss(alike, alike, jnp.ones(1)).round(4).item()
    -0.5
    """
    check_shapes("predictions [n, d], targets [n, d] and mask [n]", predictions, targets, mask)
    return (
        -masked_mean(jnp.sum(to_unit_length(predictions) * to_unit_length(targets), -1), mask) / 2
    )
