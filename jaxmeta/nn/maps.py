"""Models of features with no weights, or one."""

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_positive
from jaxmeta.nn.adapters import from_functions
from jaxmeta.types import Array, Key, Model, PyTree


def identity() -> Model:
    """Returns its inputs, for learners on features that are not to change.

    >>> model = identity()
    >>> params, state = model.init(jax.random.key(0), jnp.ones((4, 6)))
    >>> model.apply(params, state, jnp.ones((4, 6)))[0].shape
    (4, 6)
    """
    return from_functions(lambda key, x: {}, lambda params, x: x)


def power(exponent: float = 0.5) -> Model:
    r"""Powers of features that are not negative: :math:`x \mapsto \max(x, 0)^p`.

    With an exponent below 1, skewed features become more like normal ones.

    Args:
      exponent: p, positive.

    Raises:
      ValueError: ``exponent`` is not positive.

    References:
      Yang, Liu and Xu, 2021, Free Lunch for Few-shot Learning, equation 3.

    >>> power(0.5).apply({}, {}, jnp.array([[4.0, 0.0, -1.0]]))[0].tolist()
    [[2.0, 0.0, 0.0]]
    """
    check_positive("exponent", exponent)

    def apply(params: PyTree, x: Array) -> Array:
        # At zero the derivative would be infinite.
        return jnp.where(x > 0, jnp.where(x > 0, x, 1) ** exponent, 0)

    return from_functions(lambda key, x: {}, apply)


def unit_length() -> Model:
    r"""Features of length one: :math:`x \mapsto x / \lVert x \rVert`; zero stays zero.

    Squared distances between such features are cosines.

    >>> features, _ = unit_length().apply({}, {}, jnp.array([[3.0, 4.0]]))
    >>> [round(value, 3) for value in features[0].tolist()]
    [0.6, 0.8]
    """

    def apply(params: PyTree, x: Array) -> Array:
        # The constant is inside the root, as the derivative at a length of zero would be NaN.
        return x * jax.lax.rsqrt(jnp.sum(x**2, axis=1, keepdims=True) + 1e-12)

    return from_functions(lambda key, x: {}, apply)


def scaled(scale: float = 1.0) -> Model:
    r"""Features times a learned number: :math:`x \mapsto s x`, a temperature for distances.

    Args:
      scale: s at first, positive.

    Returns:
      A model whose parameters are ``{"log_scale"}``.

    Raises:
      ValueError: ``scale`` is not positive.

    >>> model = scaled(10.0)
    >>> params, state = model.init(jax.random.key(0), jnp.ones((1, 2)))
    >>> [round(value, 3) for value in model.apply(params, state, jnp.ones((1, 2)))[0][0].tolist()]
    [10.0, 10.0]
    """
    check_positive("scale", scale)

    def init(key: Key, x: Array) -> PyTree:
        return {"log_scale": jnp.log(jnp.float32(scale))}

    def apply(params: PyTree, x: Array) -> Array:
        return jnp.exp(params["log_scale"]).astype(x.dtype) * x

    return from_functions(init, apply)


def isotropic(spread: float = 1.0) -> Model:
    r"""Adds noise of a learned size to features: :math:`(x, z) \mapsto x + s z`.

    The control for a generator of :func:`jaxmeta.learners.hallucinated`.

    Args:
      spread: s at first, positive.

    Returns:
      A model from features followed by as much noise, ``[n, 2 d]``, to ``[n, d]``; its parameters
      are ``{"log_spread"}``.

    Raises:
      ValueError: ``spread`` is not positive.

    >>> model, inputs = isotropic(0.5), jnp.array([[3.0, 4.0, 0.1, -0.1]])
    >>> params, state = model.init(jax.random.key(0), inputs)
    >>> [round(value, 3) for value in model.apply(params, state, inputs)[0][0].tolist()]
    [3.05, 3.95]
    """
    check_positive("spread", spread)

    def init(key: Key, x: Array) -> PyTree:
        return {"log_spread": jnp.log(jnp.float32(spread))}

    def apply(params: PyTree, x: Array) -> Array:
        seeds, noise = x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :]
        return seeds + jnp.exp(params["log_spread"]).astype(seeds.dtype) * noise

    return from_functions(init, apply)
