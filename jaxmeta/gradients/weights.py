"""Weights of tasks that do not depend on how their gradients lie to each other."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_positive
from jaxmeta.gradients.coefficients import by_coefficients
from jaxmeta.gradients.estimator import Estimator
from jaxmeta.types import Array, Key


def fixed_weights(weights: Sequence[float], shared: Sequence[str] | None = None) -> Estimator:
    r"""The weighted sum of the tasks' gradients, divided by the sum of the weights.

    Args:
      weights: one for each task of a step, in their order.
      shared: as in :func:`jaxmeta.gradients.by_coefficients`.

    Raises:
      ValueError: the weights are not positive or, when called, are not one for each task.

    >>> estimator = fixed_weights([1.0, 0.5])
    """
    for weight in weights:
        check_positive("A weight", weight)

    def coefficients(gram: Array, losses: Array, key: Key | None) -> Array:
        if losses.size != len(weights):
            raise ValueError(
                f"There are {len(weights)} weights and a step has {losses.size} tasks: give one "
                "for each."
            )
        given = jnp.array(weights, gram.dtype)
        return given / jnp.sum(given)

    return by_coefficients(coefficients, shared)


def random_weights(shared: Sequence[str] | None = None) -> Estimator:
    r"""Random loss weighting: weights drawn anew in each step.

    .. math:: a = \mathrm{softmax}(z), \qquad z \sim \mathcal{N}(0, I)

    A method that weighs tasks with care should be better than this.

    Args:
      shared: as in :func:`jaxmeta.gradients.by_coefficients`.

    Raises:
      ValueError: when called, no key is given.

    References:
      Lin, Ye, Zhang and Tsang, 2022, Reasonable Effectiveness of Random Weighting: A Litmus Test
      for Multi-Task Learning.

    >>> estimator = random_weights()
    """

    def coefficients(gram: Array, losses: Array, key: Key | None) -> Array:
        if key is None:
            raise ValueError("key is None, but the weights are random: give a key.")
        return jax.nn.softmax(jax.random.normal(key, losses.shape, gram.dtype))

    return by_coefficients(coefficients, shared)


def balanced(shared: Sequence[str] | None = None) -> Estimator:
    r"""Gradients of the losses' logarithms, all made as long as the longest.

    .. math:: \frac1k \sum_i \frac{\max_j \lVert h_j \rVert}{\lVert h_i \rVert} h_i, \qquad
              h_i = \nabla \log (\ell_i + 10^{-8})

    The direction does not depend on the scale of any task's loss. Losses must not be negative. (The
    paper also averages gradients over steps.)

    Args:
      shared: as in :func:`jaxmeta.gradients.by_coefficients`.

    References:
      Lin et al., 2023, Dual-Balancing for Multi-Task Learning, algorithm 1.

    >>> gram = jnp.array([[4.0, 0.0], [0.0, 1.0]])
    >>> balanced_coefficients(gram, jnp.array([1.0, 1.0]), None).tolist()
    [0.5, 1.0]
    """
    return by_coefficients(balanced_coefficients, shared)


def balanced_coefficients(gram: Array, losses: Array, key: Key | None) -> Array:
    """The coefficients of :func:`balanced`."""
    squares = jnp.maximum(jnp.diagonal(gram), 0)
    lengths = jnp.sqrt(squares)
    longest = jnp.max(lengths / (losses + 1e-8).astype(gram.dtype))
    # A gradient of zero has no direction to be made longer.
    return jnp.where(squares > 0, longest / jnp.where(squares > 0, lengths, 1), 0) / gram.shape[0]
