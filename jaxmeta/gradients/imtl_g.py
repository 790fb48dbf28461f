"""IMTL-G: a direction that lies equally along the gradients of all tasks."""

from collections.abc import Sequence

import jax.numpy as jnp

from jaxmeta.gradients.coefficients import by_coefficients
from jaxmeta.gradients.estimator import Estimator
from jaxmeta.types import Array, Key


def imtl_g(shared: Sequence[str] | None = None) -> Estimator:
    r"""Impartial multi-task learning: the direction has equal projections on all gradients.

    .. math:: d = \sum_i a_i \nabla \ell_i, \quad \sum_i a_i = 1, \qquad
              \frac{d^\top \nabla \ell_i}{\lVert \nabla \ell_i \rVert} \text{ the same for all } i

    Coefficients may be negative, and where gradients conflict strongly the equal projection can be
    negative, too, so that every loss rises: that is the method. With gradients that depend on each
    other linearly, the shortest solution of the least squares is taken.

    Args:
      shared: as in :func:`jaxmeta.gradients.by_coefficients`.

    References:
      Liu et al., 2021, Towards Impartial Multi-task Learning, equation 5.

    >>> gram = jnp.array([[4.0, 0.0], [0.0, 1.0]])
    >>> [round(a, 4) for a in imtl_g_coefficients(gram, jnp.zeros(2), None).tolist()]
    [0.3333, 0.6667]
    """
    return by_coefficients(imtl_g_coefficients, shared)


def imtl_g_coefficients(gram: Array, losses: Array, key: Key | None) -> Array:
    """The coefficients of :func:`imtl_g`."""
    lengths = jnp.sqrt(jnp.maximum(jnp.diagonal(gram), jnp.finfo(gram.dtype).tiny))
    cosines = gram / (lengths[:, None] * lengths[None])
    # In units of the gradients' lengths, the projections are cosines @ (a * lengths).
    b = jnp.linalg.lstsq(cosines, jnp.ones_like(lengths))[0]
    a = b * (jnp.min(lengths) / lengths)
    total = jnp.sum(a)
    return jnp.where(total != 0, a / jnp.where(total != 0, total, 1), 1 / a.size)
