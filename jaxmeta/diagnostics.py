"""Diagnostics of features without labels: whether they collapsed, how many directions they use.

Each is a function of features ``z`` ``[n, d]``, one row per example. The first three are cheap and
take a mask ``[n]``, 1 for an example and 0 for padding, as metrics of a training step need; the
others decompose the matrix of the features and are meant for evaluations. None of them shows which
features are *good*: they compare runs of one method, and tell a collapsed run from the others.
"""

import math

import jax
import jax.numpy as jnp

from jaxmeta.losses import accuracy, masked_mean
from jaxmeta.nn.layers import moments
from jaxmeta.types import Array


def spread(z: Array, mask: Array | None = None) -> Array:
    r"""How far features of unit length are spread out: 0 when they are all equal.

    .. math:: \frac{1}{\sqrt d} \sum_{j=1}^d \operatorname{std}_i \hat z_{ij},
              \qquad \hat z_i = z_i / \lVert z_i \rVert

    It is at most 1, which it is when the directions are isotropic with mean 0, such as uniform
    points on the sphere. Its derivative is finite everywhere.

    Args:
      z: features ``[n, d]``; a row of zeros stays zero.
      mask: ``[n]``; ``None`` is all ones.

    Returns:
      A scalar in ``[0, 1]``.

    Raises:
      ValueError: the features are not ``[n, d]``.

    References:
      Chen and He, 2021, Exploring Simple Siamese Representation Learning, section 4.1,
      without the factor of the square root of d.

    >>> ends = jnp.array([[2.0, 0.0], [-1.0, 0.0], [0.0, 3.0], [0.0, -1.0]])
    >>> spread(ends).round(6).item(), spread(jnp.ones((4, 2))).round(6).item()
    (1.0, 0.0)
    """
    variance = moments(_to_unit_length(_features(z)), mask).variance
    # Differentiating a square root of zero would give NaN; what is NaN stays it.
    none = variance == 0
    deviation = jnp.where(none, 0, jnp.sqrt(jnp.where(none, 1, variance)))
    return jnp.mean(deviation) * math.sqrt(z.shape[1])


def positive_cosine(first: Array, second: Array, mask: Array | None = None) -> Array:
    r"""Mean cosine of paired rows, such as the features of two views of each image.

    .. math:: \frac1n \sum_i \cos(z_i, z'_i)

    Args:
      first: features z ``[n, d]``.
      second: features z', ``[n, d]``; row i belongs to row i of ``first``.
      mask: ``[n]``; ``None`` is all ones.

    Returns:
      A scalar in ``[-1, 1]``; a row of zeros has cosine 0 with every other.

    Raises:
      ValueError: the features are not both ``[n, d]``.

    References:
      Wang and Isola, 2020, Understanding Contrastive Representation Learning through Alignment and
      Uniformity on the Hypersphere, whose alignment is twice (1 - this).

    >>> positive_cosine(jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([[3.0, 0.0], [1.0, 0.0]]))
    Array(0.5, dtype=float32)
    """
    one, other = _paired(first, second)
    return masked_mean(jnp.sum(one * other, axis=1), _mask(mask, one))


def instance_accuracy(first: Array, second: Array, mask: Array | None = None) -> Array:
    r"""How often the row of ``second`` most similar to row i of ``first`` is row i.

    .. math:: \frac1n \sum_i \big[\operatorname*{argmax}_j \cos(z_i, z'_j) = i\big]

    It is the accuracy on the task that contrastive losses pose. Of several equally similar rows the
    first counts, so features that are all equal are right once in n.

    Args:
      first: features z ``[n, d]``.
      second: features z', ``[n, d]``; row i belongs to row i of ``first``.
      mask: ``[n]``; ``None`` is all ones. Padding is neither a query nor an answer.

    Returns:
      A scalar in ``[0, 1]``.

    Raises:
      ValueError: the features are not both ``[n, d]``.

    References:
      Wu et al., 2018, Unsupervised Feature Learning via Non-Parametric Instance Discrimination,
      section 3.1.

    >>> instance_accuracy(jnp.eye(2), jnp.array([[1.0, 0.0], [1.0, 0.1]])).item()
    1.0
    """
    one, other = _paired(first, second)
    known = _mask(mask, one)
    similarities = jnp.where(known[None] > 0, one @ other.T, -jnp.inf)
    return accuracy(similarities, jnp.arange(one.shape[0]), known)


def rankme(z: Array) -> Array:
    r"""RankMe, a smooth count of the directions that features use.

    .. math:: \exp\Big(-\sum_k p_k \log p_k\Big), \qquad
              p_k = \sigma_k / \lVert \sigma \rVert_1 + 10^{-7}

    Scaling or rotating the features changes nothing; they are not centered. Compare only runs of
    one method on one set of examples: the count is at most ``min(n, d)`` and grows with n, slowly
    once there are many more examples than dimensions (the paper uses 25,600).

    Args:
      z: features ``[n, d]``, with singular values sigma.

    Returns:
      A scalar: d if the columns are orthogonal and of equal length, 1 if the features have rank 1,
      both up to the small constant.

    Raises:
      ValueError: the features are not ``[n, d]``.

    References:
      Garrido, Balestriero, Najman and LeCun, 2023, RankMe: Assessing the Downstream Performance of
      Pretrained Self-Supervised Representations by Their Rank, equation 1.

    >>> rankme(jnp.eye(5)).round(3).item(), rankme(jnp.ones((5, 4))).round(3).item()
    (5.0, 1.0)
    """
    sigma = jnp.linalg.svd(_features(z), compute_uv=False)
    p = sigma / jnp.maximum(jnp.sum(sigma), jnp.finfo(sigma.dtype).tiny) + 1e-7
    return jnp.exp(-jnp.sum(p * jnp.log(p)))


def alpha_req(z: Array, first: int = 1, last: int | None = None) -> Array:
    r"""alpha-ReQ, how fast the eigenvalues of the covariance decay, as a power of their rank.

    .. math:: \lambda_k \propto k^{-\alpha}

    It is minus the slope of :math:`\log \lambda_k` over :math:`\log k`, by least squares over the
    ranks from ``first`` to ``last``, with equal weights. Eigenvalues no larger than the rounding
    errors of the largest are left out. A real spectrum bends: its last ranks are estimated worst
    from few examples and, being many, weigh most. So compare values over one range of ranks, and
    choose one below the bend.

    Args:
      z: features ``[n, d]``; they are centered.
      first: the first rank, from 1.
      last: the last rank; ``None`` is ``min(n, d)``.

    Returns:
      A scalar: 0 for isotropic features, larger the fewer directions matter, and infinity if
      fewer than two eigenvalues are left, as for features of rank 1.

    Raises:
      ValueError: the features are not ``[n, d]``, or the range does not span two of their ranks.

    References:
      Agrawal, Mondal, Ghosh and Richards, 2022, alpha-ReQ: Assessing Representation Quality in
      Self-Supervised Learning by Measuring Eigenspectrum Decay.

    >>> axes = jnp.diag(jnp.arange(1.0, 6.0) ** -1)  # variances fall as the square of the rank
    >>> alpha_req(jnp.concatenate([axes, -axes])).round(3).item()
    2.0
    """
    z = _features(z)
    ranks = min(z.shape)
    end = ranks if last is None else last
    if not 1 <= first < end <= ranks:
        raise ValueError(
            f"Features of shape {z.shape} have ranks 1 to {ranks}, and the fit is to go from "
            f"{first} to {end}: give a range of two or more of them."
        )
    # The eigenvalues are the squares of these over n, a common factor.
    sigma = jnp.linalg.svd(z - jnp.mean(z, axis=0, keepdims=True), compute_uv=False)
    rounding = sigma[0] * (ranks * float(jnp.finfo(sigma.dtype).eps))
    sigma = sigma[first - 1 : end]
    known = sigma > rounding
    x = jnp.log(jnp.arange(first, end + 1, dtype=sigma.dtype))
    y = 2 * jnp.log(jnp.where(known, sigma, 1))
    x = x - masked_mean(x, known)
    enough = jnp.sum(known) > 1
    alpha = -masked_mean(x * y, known) / jnp.where(enough, masked_mean(x**2, known), 1)
    alpha = jnp.where(enough, alpha, jnp.inf)
    return jnp.where(jnp.isnan(rounding), jnp.nan, alpha)


def _features(z: Array) -> Array:
    """The features in 32 bits or more."""
    if z.ndim != 2:
        raise ValueError(f"Features have shape {z.shape}: give one row for each example, [n, d].")
    z = jnp.asarray(z)
    narrow = not jnp.issubdtype(z.dtype, jnp.floating) or jnp.finfo(z.dtype).bits < 32
    return z.astype(jnp.float32) if narrow else z


def _paired(first: Array, second: Array) -> tuple[Array, Array]:
    """Both with rows of unit length."""
    if first.shape != second.shape:
        raise ValueError(
            f"Paired features have shapes {first.shape} and {second.shape}: give both as [n, d]."
        )
    return _to_unit_length(_features(first)), _to_unit_length(_features(second))


def _to_unit_length(rows: Array) -> Array:
    squared = jnp.sum(rows**2, axis=1, keepdims=True)
    none = squared == 0
    # The inner `where` is for the derivative, which would be NaN at a length of zero.
    return jnp.where(none, 0, rows * jax.lax.rsqrt(jnp.where(none, 1, squared)))


def _mask(mask: Array | None, rows: Array) -> Array:
    return jnp.ones(rows.shape[0], rows.dtype) if mask is None else mask
