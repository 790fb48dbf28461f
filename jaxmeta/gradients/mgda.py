"""MGDA: the shortest combination of the tasks' gradients, which harms none."""

from collections.abc import Sequence

import jax.numpy as jnp

from jaxmeta.gradients.coefficients import by_coefficients
from jaxmeta.gradients.estimator import Estimator
from jaxmeta.gradients.simplex import least_on_simplex, relative
from jaxmeta.types import Array, Key


def mgda(shared: Sequence[str] | None = None) -> Estimator:
    r"""The multiple-gradient descent algorithm: the shortest vector in the gradients' convex hull.

    .. math:: \min_{a \ge 0,\ \sum_i a_i = 1} \Big\lVert \sum_i a_i \nabla \ell_i \Big\rVert^2

    A step along it lowers every loss, or it is zero and no direction lowers all. It favors tasks
    with small gradients.

    Args:
      shared: as in :func:`jaxmeta.gradients.by_coefficients`.

    References:
      Désidéri, 2012, Multiple-gradient Descent Algorithm (MGDA) for Multiobjective Optimization;
      Sener and Koltun, 2018, Multi-Task Learning as Multi-Objective Optimization, equation 3.

    >>> import jax.numpy as jnp
    >>> gram = jnp.array([[1.0, 0.0], [0.0, 3.0]])
    >>> mgda_coefficients(gram, jnp.zeros(2), None).round(4).tolist()
    [0.75, 0.25]
    """
    return by_coefficients(mgda_coefficients, shared)


def mgda_coefficients(gram: Array, losses: Array, key: Key | None) -> Array:
    """The coefficients of :func:`mgda`."""
    gram = relative(gram)
    steepest = jnp.linalg.eigvalsh(gram)[-1]
    step = 1 / jnp.maximum(steepest, jnp.finfo(gram.dtype).tiny)
    return least_on_simplex(lambda w: w @ gram @ w / 2, gram.shape[0], step)
