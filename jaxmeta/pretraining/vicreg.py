"""VICReg: the two views agree, each feature varies, and no two features vary together."""

import jax
import jax.numpy as jnp

from jaxmeta.losses import masked_mean
from jaxmeta.nn import moments
from jaxmeta.nn.layers import widened
from jaxmeta.pretraining.joint_embedding import joint_embedding
from jaxmeta.pretraining.shapes import check_shapes
from jaxmeta.types import Array, Model, Objective


def vicreg(
    model: Model,
    projector: Model,
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    decay: float = 0.9,
) -> Objective:
    r"""Variance-invariance-covariance regularization, by :func:`vicreg_loss`.

    Args:
      model: the encoder.
      projector: the network on top of it; a wide :func:`jaxmeta.nn.projector`.
      invariance: weight of the distance between the views.
      variance: weight of the hinge on the standard deviations.
      covariance: weight of the covariances.
      decay: as in :func:`jaxmeta.pretraining.joint_embedding`.

    Returns:
      An objective over batches of two views; see :func:`jaxmeta.pretraining.joint_embedding`.

    Raises:
      ValueError: a weight is negative, or as for
        :func:`jaxmeta.pretraining.joint_embedding`.

    References:
      Bardes, Ponce and LeCun, 2022, VICReg: Variance-Invariance-Covariance Regularization for
      Self-Supervised Learning.

    >>> from jaxmeta.nn import conv4, projector
    >>> objective = vicreg(conv4(), projector(1024, hidden=[1024]))
    """
    weights = {"invariance": invariance, "variance": variance, "covariance": covariance}
    for name, weight in weights.items():
        if not weight >= 0:
            raise ValueError(f"{name} is {weight}: give a number of 0 or more.")
    return joint_embedding(
        model,
        projector,
        lambda first, second, batch: vicreg_loss(
            first, second, batch.mask, invariance, variance, covariance
        ),
        decay,
    )


def vicreg_loss(
    first: Array,
    second: Array,
    mask: Array,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
) -> Array:
    r"""The distance between the views, a hinge on each standard deviation, and the covariances.

    .. math:: \frac{\lambda}{nd} \sum_k \lVert z_k - z'_k \rVert^2
              + \sum_{v \in \{z, z'\}} \Big( \frac{\mu}{2d} \sum_i
                \max\big(0,\, 1 - \sqrt{\mathrm{Var}(v_i) + 10^{-4}}\big)
              + \frac{\nu}{d} \sum_{i \neq j} \mathrm{Cov}(v_i, v_j)^2 \Big)

    Variances and covariances are unbiased. The factor of one half on the hinge follows the authors'
    code; the paper's equation 6 has none.

    Args:
      first: outputs of the first view ``[n, d]``.
      second: outputs of the second ``[n, d]``.
      mask: ``[n]``; padding is ignored.
      invariance: lambda.
      variance: mu.
      covariance: nu.

    Raises:
      ValueError: the shapes differ from these.

    References:
      Bardes et al., 2022, equations 1 to 6.

    >>> alike = jnp.ones((4, 3))
    >>> vicreg_loss(alike, alike, jnp.ones(4)).round(4).item()
    24.75
    """
    check_shapes("first [n, d], second [n, d] and mask [n]", first, second, mask)
    first, second = widened(first), widened(second)
    count = jnp.sum(mask)
    unbiased = count / jnp.maximum(count - 1, 1)

    def regularization(z: Array) -> Array:
        mean, biased = moments(z, mask)
        variances = unbiased * biased
        centered = (z - mean[None]) * mask[:, None]
        covariances = centered.T @ centered / jnp.maximum(count - 1, 1)
        hinge = jnp.mean(jax.nn.relu(1 - jnp.sqrt(variances + 1e-4)))
        off = jnp.sum(covariances**2) - jnp.sum(jnp.diagonal(covariances) ** 2)
        return variance * hinge / 2 + covariance * off / z.shape[1]

    distance = masked_mean(jnp.mean((first - second) ** 2, axis=1), mask)
    return invariance * distance + regularization(first) + regularization(second)
