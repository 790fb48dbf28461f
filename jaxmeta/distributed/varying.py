"""Values that differ between the devices of a ``jax.shard_map``."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxmeta.types import PyTree


def varying_alike(*trees: PyTree) -> Any:
    """Gives each device its own copy of shared values, if any of the given values differs.

    A derivative with respect to a shared value is summed over the devices, both in a product and in
    an inner loop. In the latter this would be wrong, as each device adapts to its own tasks.
    Functions of a task's values therefore call this first. Outside a ``jax.shard_map`` that
    distinguishes the two (``check_vma=True``, its default), nothing happens.

    Args:
      trees: pytrees of arrays.

    Returns:
      The same, all varying over the mesh axes over which any of them varies.
    """
    return _vary(trees, _axes(trees))


def varying_as(function: Callable[..., PyTree], *arguments: PyTree) -> Any:
    """:func:`varying_alike` of arguments, which also vary as the function's outputs do.

    The function may close over values that differ.
    """
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return arguments
    return _vary(arguments, _axes((arguments, jax.eval_shape(function, *arguments))))


def zeros_like_shapes(shapes: PyTree) -> PyTree:
    """Zeros of these shapes, as returned by ``jax.eval_shape``, which vary as they do."""

    def zeros(leaf: Any) -> Any:
        kind = leaf.manual_axis_type
        axes = frozenset[str]() if kind is None else kind.varying
        return _vary(jnp.zeros(leaf.shape, leaf.dtype), axes)

    return jax.tree.map(zeros, shapes)


def _axes(tree: PyTree) -> frozenset[str]:
    """The axes of the mesh over which any of the values varies."""
    kinds = [jax.typeof(leaf).manual_axis_type for leaf in jax.tree.leaves(tree)]
    return frozenset[str]().union(*(kind.varying for kind in kinds if kind is not None))


def _vary(tree: PyTree, axes: frozenset[str]) -> PyTree:
    def vary(leaf: Any) -> Any:
        missing = axes - jax.typeof(leaf).manual_axis_type.varying
        return jax.lax.pcast(leaf, tuple(missing), to="varying") if missing else leaf

    return jax.tree.map(vary, tree)
