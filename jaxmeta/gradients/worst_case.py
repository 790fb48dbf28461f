"""The gradient of the worst task."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxmeta.gradients.coefficients import by_coefficients
from jaxmeta.gradients.estimator import Estimator
from jaxmeta.types import Array, Key


def worst_case(shared: Sequence[str] | None = None) -> Estimator:
    r"""The gradient of the largest loss, :math:`\nabla \max_i \ell_i(\theta)`.

    Args:
      shared: as in :func:`jaxmeta.gradients.by_coefficients`.

    References:
      Collins, Mokhtari and Shakkottai, 2020, Task-Robust Model-Agnostic Meta-Learning, equation 3.

    >>> estimator = worst_case()
    """

    def coefficients(gram: Array, losses: Array, key: Key | None) -> Array:
        return jax.nn.one_hot(jnp.argmax(losses), losses.shape[0], dtype=gram.dtype)

    return by_coefficients(coefficients, shared)
