"""Minimization over the simplex, of which several methods are an instance."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxmeta.types import Array

ITERATIONS = 500


def relative(gram: Array) -> Array:
    """A Gram matrix divided by its largest entry, so that one step size suits all gradients."""
    return gram / jnp.maximum(jnp.max(jnp.diagonal(gram)), jnp.finfo(gram.dtype).tiny)


def least_on_simplex(function: Callable[[Array], Array], size: int, step: float | Array) -> Array:
    r"""Minimizes a convex function over :math:`w \ge 0,\ \sum_i w_i = 1`, by FISTA.

    Args:
      function: ``w [size] -> scalar``.
      size: number of weights.
      step: step size, one over a Lipschitz constant of the gradient.

    References:
      Beck and Teboulle, 2009, A Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse
      Problems, section 4.

    >>> least_on_simplex(lambda w: jnp.sum((w - jnp.array([2.0, 0.5])) ** 2), 2, 0.5).tolist()
    [1.0, 0.0]
    """
    even = jnp.full(size, 1 / size, jnp.float32)

    def descend(carry: tuple[Array, Array], count: Array) -> tuple[tuple[Array, Array], None]:
        w, ahead = carry
        with jax.numpy_dtype_promotion("standard"):  # optax relies on it
            moved = optax.projections.projection_simplex(ahead - step * jax.grad(function)(ahead))
        momentum = (count / (count + 3)).astype(w.dtype)
        return (moved, moved + momentum * (moved - w)), None

    (w, _), _ = jax.lax.scan(descend, (even, even), jnp.arange(ITERATIONS, dtype=jnp.float32))
    return w
