"""A loss's gradient with a derivative of its own: forward over reverse."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero, custom_vjp_primal_tree_values
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from jaxmeta.inner.loop import InnerLoss
from jaxmeta.types import Array, Key, PyTree


def mixed_mode(
    loss: InnerLoss, fast: PyTree, key: Key
) -> Callable[[PyTree, Key], tuple[Array, PyTree]]:
    r"""A loss's value and gradient, itself differentiated in reverse by going forward.

    The outer gradient needs products of a vector v with the second derivatives of the loss,
    :math:`v^\top \partial^2 L / \partial\theta\,\partial(\theta, c)`, where c is whatever else
    the loss depends on. As second derivatives are symmetric, all of them are the derivative of
    :math:`\nabla_{(\theta, c)} L` in the direction v of theta: one forward pass over the gradient,
    for which nothing of the inner gradient's own backward pass need be kept.

    Args:
      loss: ``(fast, key) -> scalar``; it may close over arrays being differentiated or mapped.
      fast: parameters, of the shapes that it will be called with.
      key: a key like those that it will be called with.

    Returns:
      ``(fast, key) -> (value, gradient)``, as ``jax.value_and_grad(loss)``.

    References:
      Kemaev et al., 2025, Scalable Meta-Learning via Mixed-Mode Differentiation.
    """
    open_loss, consts = opened(loss, fast, key)

    @jax.custom_vjp
    def value_and_gradient(consts: list[Array], fast: PyTree, key: Key) -> tuple[Array, PyTree]:
        return jax.value_and_grad(open_loss, argnums=1)(consts, fast, key)

    def forward(*primals: Any) -> tuple[Any, Any]:
        consts, fast, key = custom_vjp_primal_tree_values(primals)
        # Not by calling the function above: with what a custom rule leaves inside a scan, jax 0.10
        # mixes up the residuals of a further reverse pass.
        result = jax.value_and_grad(open_loss, argnums=1)(consts, fast, key)
        return result, (consts, fast, key)

    def backward(saved: Any, cotangents: tuple[PyTree, PyTree]) -> tuple[Any, PyTree, None]:
        consts, fast, key = saved
        of_value, of_gradient = cotangents
        moving, filled = smooth_parts(consts)

        def gradients(fast: PyTree) -> tuple[list[Array], PyTree]:
            def of(moving: list[Array], fast: PyTree) -> Array:
                return open_loss(filled(moving), fast, key)

            return jax.grad(of, argnums=(0, 1))(moving, fast)

        direction = jax.tree.map(_filled, of_gradient, fast)
        first, moved = jax.jvp(gradients, (fast,), (direction,))
        # Most values are only reported: then nothing computes the gradient again.
        if not isinstance(of_value, SymbolicZero):
            moved = jax.tree.map(lambda g, h: of_value.astype(g.dtype) * g + h, first, moved)
        return among(moved[0], consts), moved[1], None

    value_and_gradient.defvjp(forward, backward, symbolic_zeros=True)
    return lambda fast, key: value_and_gradient(consts, fast, key)


def _filled(cotangent: Any, leaf: Array) -> Array:
    return jnp.zeros_like(leaf) if isinstance(cotangent, SymbolicZero) else cotangent


OpenLoss = Callable[[list[Array], PyTree, Key], Array]


def opened(loss: InnerLoss, fast: PyTree, key: Key) -> tuple[OpenLoss, list[Array]]:
    """A loss of what it closes over as well, through which a custom rule sends derivatives."""
    traced = jax.make_jaxpr(loss)(fast, key)

    def open_loss(consts: list[Array], fast: PyTree, key: Key) -> Array:
        closed = ClosedJaxpr(traced.jaxpr, consts)
        return jaxpr_as_fun(closed)(*jax.tree.leaves((fast, key)))[0]

    return open_loss, traced.consts


def smooth_parts(consts: list[Array]) -> tuple[list[Array], Callable[[list[Array]], list[Array]]]:
    """Those that have a derivative, and how to put others in their places."""
    smooth = [jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) for leaf in consts]

    def filled(moving: list[Array]) -> list[Array]:
        rest = iter(moving)
        return [next(rest) if yes else leaf for yes, leaf in zip(smooth, consts, strict=True)]

    return [leaf for yes, leaf in zip(smooth, consts, strict=True) if yes], filled


def among(moved: list[Array], consts: list[Array]) -> list[Array | None]:
    """Derivatives of those that have one, ``None`` for the others."""
    rest = iter(moved)
    return [
        next(rest) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) else None
        for leaf in consts
    ]
