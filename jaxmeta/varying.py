"""What differs between the devices of a ``jax.shard_map``."""

from typing import Any

import jax

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
    leaves, structure = jax.tree.flatten(trees)
    over = [jax.typeof(leaf).manual_axis_type.varying for leaf in leaves]
    axes = frozenset[str]().union(*over)
    return jax.tree.unflatten(
        structure,
        [
            jax.lax.pcast(leaf, tuple(axes - own), to="varying") if axes - own else leaf
            for leaf, own in zip(leaves, over, strict=True)
        ],
    )
