"""Gradient reversal: what one part of a network minimizes, the part below it maximizes."""

import jax

from jaxmeta.types import Array


def reverse(x: Array, strength: float | Array = 1.0) -> Array:
    r"""The same values, whose derivative is multiplied by minus ``strength``.

    .. math:: r(x) = x, \qquad \frac{\partial r}{\partial x} = -s\, I

    Gradients of every order, in forward mode too, so it also works within inner loops.

    Args:
      x: an array of finite numbers.
      strength: s; 0 stops the gradient.

    References:
      Ganin et al., 2016, Domain-Adversarial Training of Neural Networks, section 4.2.

    >>> import jax.numpy as jnp
    >>> jax.value_and_grad(lambda x: 3 * reverse(x, 0.5))(jnp.float32(2.0))
    (Array(6., dtype=float32), Array(-1.5, dtype=float32...))
    """
    held = jax.lax.stop_gradient(x)
    return held - strength * (x - held)
