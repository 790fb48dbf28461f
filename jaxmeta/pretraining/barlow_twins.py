"""Barlow Twins: the outputs of two views correlate feature by feature, and not across features."""

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_positive
from jaxmeta.nn import moments
from jaxmeta.nn.layers import widened
from jaxmeta.pretraining.joint_embedding import joint_embedding
from jaxmeta.pretraining.shapes import check_shapes
from jaxmeta.types import Array, Model, Objective


def barlow_twins(
    model: Model,
    projector: Model,
    *,
    redundancy: float = 5e-3,
    scale: float = 0.1,
    decay: float = 0.9,
) -> Objective:
    r"""Redundancy reduction, by :func:`barlow_twins_loss`.

    Args:
      model: the encoder.
      projector: the network on top of it; a wide :func:`jaxmeta.nn.projector`.
      redundancy: lambda, the weight of the correlations between features.
      scale: factor of the loss, which weighs its gradient against weight decay and clipping.
      decay: as in :func:`jaxmeta.pretraining.joint_embedding`.

    Returns:
      An objective over batches of two views; see :func:`jaxmeta.pretraining.joint_embedding`.

    Raises:
      ValueError: a weight is not positive, or as for
        :func:`jaxmeta.pretraining.joint_embedding`.

    References:
      Zbontar et al., 2021, Barlow Twins: Self-Supervised Learning via Redundancy Reduction.

    >>> from jaxmeta.nn import conv4, projector
    >>> objective = barlow_twins(conv4(), projector(1024, hidden=[1024]))
    """
    check_positive("redundancy", redundancy)
    check_positive("scale", scale)
    return joint_embedding(
        model,
        projector,
        lambda first, second, batch: (
            scale * barlow_twins_loss(first, second, batch.mask, redundancy)
        ),
        decay,
    )


def barlow_twins_loss(first: Array, second: Array, mask: Array, redundancy: float = 5e-3) -> Array:
    r"""How far the cross-correlation of the two views is from the identity.

    .. math:: \sum_i (1 - C_{ii})^2 + \lambda \sum_{i \neq j} C_{ij}^2, \qquad
              C = \frac1n \sum_k \tilde z_k \tilde z_k'^\top

    where each feature is standardized over the batch using the biased variance plus 1e-5, as in the
    authors' code.

    Args:
      first: outputs of the first view ``[n, d]``.
      second: outputs of the second ``[n, d]``.
      mask: ``[n]``; padding is ignored.
      redundancy: lambda.

    Raises:
      ValueError: the shapes differ from these.

    References:
      Zbontar et al., 2021, equations 1 and 2.

    >>> white = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> barlow_twins_loss(white, white, jnp.ones(4)).round(6).item()
    0.0
    """
    check_shapes("first [n, d], second [n, d] and mask [n]", first, second, mask)
    first, second = widened(first), widened(second)
    share = mask / jnp.maximum(jnp.sum(mask), 1)

    def standardized(z: Array) -> Array:
        mean, variance = moments(z, mask)
        return (z - mean[None]) * jax.lax.rsqrt(variance + 1e-5)[None]

    correlation = (standardized(first) * share[:, None]).T @ standardized(second)
    on, every = jnp.diagonal(correlation), jnp.sum(correlation**2)
    return jnp.sum((1 - on) ** 2) + redundancy * (every - jnp.sum(on**2))
