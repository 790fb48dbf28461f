"""The gradient of a loss, differentiated forward over reverse."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero, custom_vjp_primal_tree_values
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from jaxmeta.inner.leaves import merge
from jaxmeta.inner.loop import InnerLoss
from jaxmeta.types import Array, Key, PyTree

ConvertedLoss = Callable[[list[Array], PyTree, Key], Array]
"""``(consts, fast, key) -> scalar``."""


def mixed_mode(
    loss: InnerLoss, fast: PyTree, key: Key
) -> Callable[[PyTree, Key], tuple[Array, PyTree]]:
    r"""The value and gradient of a loss, whose own reverse derivative is a forward pass.

    The outer gradient needs products of a vector v with the second derivatives of the loss,
    :math:`v^\top \partial^2 L / \partial\theta\,\partial(\theta, c)`, where c is whatever else
    the loss depends on. As second derivatives are symmetric, these products are the derivative of
    :math:`\nabla_{(\theta, c)} L` in the direction v of theta: one forward pass over the gradient,
    which needs no intermediate value of the inner gradient's own backward pass to be kept.

    Args:
      loss: ``(fast, key) -> scalar``; it may close over arrays that are differentiated or mapped.
      fast: parameters with the shapes that the result will be called with.
      key: a key like those that the result will be called with.

    Returns:
      ``(fast, key) -> (value, gradient)``, like ``jax.value_and_grad(loss)``.

    References:
      Kemaev et al., 2025, Scalable Meta-Learning via Mixed-Mode Differentiation.

    >>> loss = lambda theta, key: jnp.sum(theta**3)
    >>> theta, key = jnp.array([1.0, 2.0]), jax.random.key(0)
    >>> value_and_gradient = mixed_mode(loss, theta, key)
    >>> value_and_gradient(theta, key)[1].tolist()
    [3.0, 12.0]
    >>> jax.grad(lambda theta: jnp.sum(value_and_gradient(theta, key)[1]))(theta).tolist()
    [6.0, 12.0]
    """
    converted, consts = closure_convert(loss, fast, key)

    # A custom rule may not close over what is differentiated, so what the loss closes over is an
    # argument here.
    @jax.custom_vjp
    def value_and_gradient(consts: list[Array], fast: PyTree, key: Key) -> tuple[Array, PyTree]:
        return jax.value_and_grad(converted, argnums=1)(consts, fast, key)

    def forward(*primals: Any) -> tuple[Any, Any]:
        consts, fast, key = custom_vjp_primal_tree_values(primals)
        # Not by calling the function above: with what a custom rule leaves inside a scan, jax 0.10
        # mixes up the residuals of a further reverse pass.
        result = jax.value_and_grad(converted, argnums=1)(consts, fast, key)
        # Only the arguments are kept, and of these only the parameters differ between steps.
        return result, (consts, fast, key)

    def backward(saved: Any, cotangents: tuple[PyTree, PyTree]) -> tuple[Any, PyTree, None]:
        consts, fast, key = saved
        of_value, of_gradient = cotangents
        floating, rest = split_floating(consts)

        def gradients(fast: PyTree) -> tuple[list[Array | None], PyTree]:
            def partial_loss(floating: list[Array | None], fast: PyTree) -> Array:
                return converted(merge(floating, rest), fast, key)

            return jax.grad(partial_loss, argnums=(0, 1))(floating, fast)

        # The gradient's cotangent v is the direction of the forward pass. Its primal output is the
        # plain gradient, which the value's cotangent multiplies.
        direction = jax.tree.map(_instantiated, of_gradient, fast)
        first, second = jax.jvp(gradients, (fast,), (direction,))
        # The value is usually only reported, not differentiated: then `first` is never computed.
        if not isinstance(of_value, SymbolicZero):
            second = jax.tree.map(lambda g, h: of_value.astype(g.dtype) * g + h, first, second)
        # In a custom rule None means zero, as for integers and keys among the constants.
        return *second, None

    value_and_gradient.defvjp(forward, backward, symbolic_zeros=True)
    return lambda fast, key: value_and_gradient(consts, fast, key)


def _instantiated(cotangent: Any, leaf: Array) -> Array:
    return jnp.zeros_like(leaf) if isinstance(cotangent, SymbolicZero) else cotangent


def closure_convert(loss: InnerLoss, fast: PyTree, key: Key) -> tuple[ConvertedLoss, list[Array]]:
    """Turns whatever a loss closes over into arguments, for a custom rule to differentiate.

    ``jax.closure_convert`` does so only for what is currently being differentiated, and leaves out
    what an outer transformation will map or differentiate later.

    Returns:
      The loss as ``(consts, fast, key) -> scalar``, and these constants.
    """
    traced = jax.make_jaxpr(loss)(fast, key)

    def converted(consts: list[Array], fast: PyTree, key: Key) -> Array:
        closed = ClosedJaxpr(traced.jaxpr, consts)
        return jaxpr_as_fun(closed)(*jax.tree.leaves((fast, key)))[0]

    return converted, traced.consts


def split_floating(consts: list[Array]) -> tuple[list[Array | None], list[Array | None]]:
    """Splits constants into those that have a derivative and the others (integers and keys).

    ``None`` stands in for the other kind; :func:`jaxmeta.inner.leaves.merge` is the inverse.
    """
    floating = [jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) for leaf in consts]
    return (
        [leaf if yes else None for leaf, yes in zip(consts, floating, strict=True)],
        [None if yes else leaf for leaf, yes in zip(consts, floating, strict=True)],
    )
