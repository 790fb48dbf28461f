"""CAGrad: near the mean gradient, the direction that most helps the task it helps least."""

from collections.abc import Sequence

import jax.numpy as jnp

from jaxmeta.gradients.coefficients import by_coefficients
from jaxmeta.gradients.estimator import Estimator
from jaxmeta.gradients.simplex import least_on_simplex, relative
from jaxmeta.types import Array, Key


def cagrad(c: float = 0.5, shared: Sequence[str] | None = None) -> Estimator:
    r"""CAGrad: the direction near the mean gradient that most helps the task it helps least.

    .. math:: \max_d \min_i \nabla\ell_i^\top d \quad \text{with} \quad
              \lVert d - g_0 \rVert \le c \lVert g_0 \rVert, \qquad
              g_0 = \frac1k \sum_i \nabla\ell_i

    By its dual, :math:`d = g_0 + c \lVert g_0 \rVert\, g_w / \lVert g_w \rVert` with
    :math:`g_w = \sum_i w_i \nabla\ell_i` and w on the simplex minimizing
    :math:`g_w^\top g_0 + c \lVert g_0 \rVert \lVert g_w \rVert`. As in the authors' code, d is
    divided by :math:`1 + c^2`.

    w is found to a few percent of the gain where the lengths of the gradients differ up to a
    hundred times, and not where they differ much more.

    Args:
      c: how far d may be from the mean gradient: from 0, the mean gradient itself, to below 1.
      shared: as in :func:`jaxmeta.gradients.by_coefficients`.

    Raises:
      ValueError: ``c`` is outside [0, 1).

    References:
      Liu et al., 2021, Conflict-Averse Gradient Descent for Multi-task Learning, algorithm 1.

    >>> estimator = cagrad(c=0.0)
    """
    if not 0 <= c < 1:
        raise ValueError(f"c is {c}: give a number from 0 up to below 1.")

    def coefficients(gram: Array, losses: Array, key: Key | None) -> Array:
        k = gram.shape[0]
        even = jnp.full(k, 1 / k, gram.dtype)
        gram = relative(gram)
        radius = c * jnp.sqrt(jnp.maximum(even @ gram @ even, 0))

        def dual(w: Array) -> Array:
            return w @ gram @ even + radius * jnp.sqrt(jnp.maximum(w @ gram @ w, 0) + 1e-12)

        w = least_on_simplex(dual, k, step=0.25)
        length = jnp.sqrt(jnp.maximum(w @ gram @ w, 0) + 1e-12)
        return (even + radius * w / length) / (1 + c**2)

    return by_coefficients(coefficients, shared)
