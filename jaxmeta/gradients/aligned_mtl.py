"""Aligned-MTL: the tasks' gradients, made orthogonal and equally long, then averaged."""

from collections.abc import Sequence

import jax.numpy as jnp

from jaxmeta.gradients.coefficients import by_coefficients
from jaxmeta.gradients.estimator import Estimator
from jaxmeta.types import Array, Key


def aligned_mtl(shared: Sequence[str] | None = None) -> Estimator:
    r"""The mean of the nearest gradients that do not conflict and have one length.

    .. math:: a = \frac{\sqrt{\lambda_{\min}}}{k}\, V \Lambda^{-1/2} V^\top \mathbf{1},
              \qquad G = V \Lambda V^\top

    Directions whose eigenvalue is below :math:`10^{-7} k` of the largest are left out, as rounding
    decides them; so is a task whose gradient is some thousand times shorter than another's. (The
    paper uses the sum, in the same direction.)

    Args:
      shared: as in :func:`jaxmeta.gradients.by_coefficients`.

    References:
      Senushkin, Patakin, Kuznetsov and Konushin, 2023, Independent Component Alignment for
      Multi-Task Learning, equation 9.

    >>> gram = jnp.array([[4.0, 0.0], [0.0, 1.0]])
    >>> aligned_mtl_coefficients(gram, jnp.zeros(2), None).tolist()
    [0.25, 0.5]
    """
    return by_coefficients(aligned_mtl_coefficients, shared)


def aligned_mtl_coefficients(gram: Array, losses: Array, key: Key | None) -> Array:
    """The coefficients of :func:`aligned_mtl`."""
    values, vectors = jnp.linalg.eigh(gram)
    kept = values > jnp.max(values) * gram.shape[0] * jnp.finfo(gram.dtype).eps
    least = jnp.min(jnp.where(kept, values, jnp.inf))
    inverse = jnp.where(kept, 1 / jnp.sqrt(jnp.where(kept, values, 1)), 0)
    scales = jnp.where(jnp.any(kept), jnp.sqrt(least), 0) * inverse
    return vectors @ (scales * jnp.sum(vectors, axis=0)) / gram.shape[0]
