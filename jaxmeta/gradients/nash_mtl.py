"""Nash-MTL: the direction on which tasks would agree in bargaining."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxmeta.gradients.coefficients import by_coefficients
from jaxmeta.gradients.estimator import Estimator
from jaxmeta.types import Array, Key

ITERATIONS = 40


def nash_mtl(shared: Sequence[str] | None = None) -> Estimator:
    r"""The Nash bargaining solution: the product of the tasks' gains is the largest.

    .. math:: a_i\, (G a)_i = 1 \quad \text{for all } i, \qquad
              \text{where} \quad \min_{a > 0}\; \tfrac12 a^\top G a - \sum_i \log a_i

    has its minimum; the problem is convex, and is solved by damped Newton steps. A task whose loss
    is multiplied by a number has the same influence as before. The length of the direction is
    :math:`\sqrt{k}`, for k gradients other than zero. Where gradients are exactly opposite there is
    no solution, and the Gram matrix of unit gradients has :math:`10^{-5} I` added.

    Args:
      shared: as in :func:`jaxmeta.gradients.by_coefficients`.

    References:
      Navon et al., 2022, Multi-Task Learning as a Bargaining Game, claim 3.2.

    >>> gram = jnp.array([[4.0, 0.0], [0.0, 1.0]])
    >>> nash_mtl_coefficients(gram, jnp.zeros(2), None).round(5).tolist()
    [0.5, 1.0]
    """
    return by_coefficients(nash_mtl_coefficients, shared)


def nash_mtl_coefficients(gram: Array, losses: Array, key: Key | None) -> Array:
    """The coefficients of :func:`nash_mtl`."""
    lengths = jnp.sqrt(jnp.maximum(jnp.diagonal(gram), jnp.finfo(gram.dtype).tiny))
    # In units of the gradients' lengths, so that the scales of losses do not matter.
    cosines = gram / (lengths[:, None] * lengths[None])
    cosines += 1e-5 * jnp.eye(len(gram), dtype=gram.dtype)

    def newton(b: Array, _: None) -> tuple[Array, None]:
        slope = cosines @ b - 1 / b
        step = jnp.linalg.solve(cosines + jnp.diag(1 / b**2), slope)
        # Damped by its length in the local norm, a step stays positive and always descends.
        return b - step / (1 + jnp.sqrt(jnp.maximum(slope @ step, 0))), None

    b, _ = jax.lax.scan(newton, jnp.ones_like(lengths), None, ITERATIONS)
    return b / lengths
