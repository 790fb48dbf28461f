"""What differs between the devices of a ``jax.shard_map``."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxmeta.types import PyTree


def varying_alike(*trees: PyTree) -> Any:
    """Gives each device its own copy of what all share, where another of the values differs.

    A derivative with respect to something shared is summed over the devices, a product's as well as
    that of an inner loop, where it would be wrong: each device adapts to its own tasks. Functions
    that a task's values enter therefore call this first. Outside of a ``jax.shard_map`` that tells
    the two apart (``check_vma=True``, its default) nothing happens.

    Args:
      trees: pytrees of arrays.

    Returns:
      The same, all of them varying over the axes of the mesh that one of them varies over.
    """
    return _vary(trees, _axes(trees))


def varying_as(function: Callable[..., PyTree], *arguments: PyTree) -> Any:
    """:func:`varying_alike` of arguments, which also vary as what a function makes of them.

    The function may close over values that differ.
    """
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return arguments
    return _vary(arguments, _axes((arguments, jax.eval_shape(function, *arguments))))


def zeros_like_shapes(shapes: PyTree) -> PyTree:
    """Zeros of these shapes, as ``jax.eval_shape`` gives them, which vary as they do."""

    def zeros(leaf: Any) -> Any:
        kind = leaf.manual_axis_type
        axes = frozenset[str]() if kind is None else kind.varying
        return _vary(jnp.zeros(leaf.shape, leaf.dtype), axes)

    return jax.tree.map(zeros, shapes)


def _axes(tree: PyTree) -> frozenset[str]:
    """The axes of the mesh over which one of the values varies."""
    kinds = [jax.typeof(leaf).manual_axis_type for leaf in jax.tree.leaves(tree)]
    return frozenset[str]().union(*(kind.varying for kind in kinds if kind is not None))


def _vary(tree: PyTree, axes: frozenset[str]) -> PyTree:
    def vary(leaf: Any) -> Any:
        missing = axes - jax.typeof(leaf).manual_axis_type.varying
        return jax.lax.pcast(leaf, tuple(missing), to="varying") if missing else leaf

    return jax.tree.map(vary, tree)
