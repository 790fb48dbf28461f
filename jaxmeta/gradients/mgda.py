"""MGDA: the shortest combination of the tasks' gradients, which harms none."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxmeta.gradients.coefficients import by_coefficients
from jaxmeta.gradients.estimator import Estimator
from jaxmeta.types import Array, Key

SWEEPS = 200


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
    r"""The coefficients of :func:`mgda`.

    The shortest vector is along the minimum of :math:`v^\top C v / 2 - \sum_i v_i / l_i` over
    :math:`v \ge 0`, with the cosines C of the gradients and their lengths l. Its coordinates are
    minimized in turn, each exactly, so differences in length do not slow it down.
    """
    k = gram.shape[0]
    lengths = jnp.sqrt(jnp.maximum(jnp.diagonal(gram), jnp.finfo(gram.dtype).tiny))
    shortest = jnp.min(lengths)
    # The minimum is not finite if zero is in the convex hull, but for the term on the diagonal.
    cosines = gram / (lengths[:, None] * lengths[None]) + 1e-6 * jnp.eye(k, dtype=gram.dtype)
    linear = shortest / lengths

    def coordinate(place: Array, v: Array) -> Array:
        slope = linear[place] - cosines[place] @ v
        return v.at[place].set(jnp.maximum(v[place] + slope / cosines[place, place], 0))

    v = jax.lax.fori_loop(
        0, SWEEPS * k, lambda count, v: coordinate(count % k, v), jnp.zeros_like(linear)
    )
    a = v * linear
    return a / jnp.sum(a)
