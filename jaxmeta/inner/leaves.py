"""Which parameters adapt."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxmeta.types import PyTree


def path_name(path: tuple[Any, ...]) -> str:
    """The name of a leaf, as in ``"block0/kernel"``."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def partition(params: PyTree, fast: Callable[[str], bool]) -> tuple[PyTree, PyTree]:
    """Splits parameters into those that adapt and the rest, ``None`` standing in for the other.

    Args:
      params: any pytree.
      fast: tells by a leaf's name, as in ``"block0/kernel"``, whether it adapts.

    Returns:
      ``(fast, slow)``, both of the structure of ``params``; :func:`merge` is the inverse.

    Raises:
      ValueError: no leaf adapts.
    """
    chosen = jax.tree_util.tree_map_with_path(lambda path, _: fast(path_name(path)), params)
    if not any(jax.tree.leaves(chosen)):
        names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        raise ValueError(f"No parameter adapts: `fast` chose none of {', '.join(names)}.")
    return (
        jax.tree.map(lambda leaf, yes: leaf if yes else None, params, chosen),
        jax.tree.map(lambda leaf, yes: None if yes else leaf, params, chosen),
    )


def merge(fast: PyTree, slow: PyTree) -> PyTree:
    """Puts together what :func:`partition` took apart."""
    return jax.tree.map(
        lambda a, b: b if a is None else a, fast, slow, is_leaf=lambda leaf: leaf is None
    )


def check_differentiable(fast: PyTree) -> None:
    """Raises ``TypeError`` naming the first leaf that no gradient can move."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(fast):
        dtype = jnp.asarray(leaf).dtype
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"Parameter '{path_name(path)}' is of type {dtype}, which no gradient can move: "
                "make it floating, or a constant of the model instead of a parameter."
            )
