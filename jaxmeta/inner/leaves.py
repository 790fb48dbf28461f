"""Which parameters adapt, and whether they can."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.types import Array, PyTree


def path_name(path: tuple[Any, ...]) -> str:
    """The name of the leaf at a path, as in ``"block0/kernel"``.

    >>> ((path, _),) = jax.tree_util.tree_leaves_with_path({"block0": {"kernel": 1.0}})
    >>> path_name(path)
    'block0/kernel'
    """
    return jax.tree_util.keystr(path, simple=True, separator="/")


def within(name: str, part: str) -> bool:
    """Whether a leaf is in a part, or is the part.

    >>> within("block1/kernel", "block1"), within("block10/kernel", "block1")
    (True, False)
    """
    return f"{name}/".startswith(f"{part}/")


def partition(params: PyTree, fast: Callable[[str], bool]) -> tuple[PyTree, PyTree]:
    """Splits parameters into those that adapt and the rest, with ``None`` in place of the others.

    Args:
      params: any pytree.
      fast: ``(name) -> bool``, whether the leaf of that name, as in ``"block0/kernel"``, adapts.

    Returns:
      ``(fast, slow)``, both with the structure of ``params``; :func:`merge` is the inverse.

    Raises:
      ValueError: no leaf adapts.

    >>> fast, slow = partition({"body": 1.0, "head": 2.0}, lambda name: name == "head")
    >>> fast, slow
    ({'body': None, 'head': 2.0}, {'body': 1.0, 'head': None})
    >>> merge(fast, slow)
    {'body': 1.0, 'head': 2.0}
    """
    chosen = jax.tree_util.tree_map_with_path(lambda path, _: fast(path_name(path)), params)
    if not any(jax.tree.leaves(chosen)):
        names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        raise ValueError(
            f"fast must choose a parameter to adapt, but chose none of {', '.join(names)}."
        )
    return (
        jax.tree.map(lambda leaf, yes: leaf if yes else None, params, chosen),
        jax.tree.map(lambda leaf, yes: None if yes else leaf, params, chosen),
    )


def merge(fast: PyTree, slow: PyTree) -> PyTree:
    """Recombines what :func:`partition` split.

    >>> merge({"body": None, "head": 2.0}, {"body": 1.0, "head": None})
    {'body': 1.0, 'head': 2.0}
    """
    return jax.tree.map(
        lambda a, b: b if a is None else a, fast, slow, is_leaf=lambda leaf: leaf is None
    )


def raveled(tree: PyTree) -> tuple[Array, Callable[[Array], PyTree]]:
    """All leaves as one vector of float32, or wider if they are, and the way back to their types.

    >>> vector, back = raveled({"a": jnp.ones((2, 1), jnp.bfloat16), "b": jnp.zeros(())})
    >>> vector.tolist(), back(vector)["a"].dtype.name
    ([1.0, 1.0, 0.0], 'bfloat16')
    """
    leaves, structure = jax.tree.flatten(tree)
    dtype = computed_in(tree)
    ends = np.cumsum([jnp.size(leaf) for leaf in leaves])

    def back(vector: Array) -> PyTree:
        parts = jnp.split(vector, ends[:-1])
        shaped = [
            part.reshape(jnp.shape(leaf)).astype(jnp.result_type(leaf))
            for part, leaf in zip(parts, leaves, strict=True)
        ]
        return jax.tree.unflatten(structure, shaped)

    return jnp.concatenate([jnp.ravel(leaf).astype(dtype) for leaf in leaves]), back


def computed_in(tree: PyTree) -> Any:
    """The widest type of the leaves, at least float32."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(
            jnp.float32, *(jnp.result_type(leaf) for leaf in jax.tree.leaves(tree))
        )


def check_differentiable(fast: PyTree) -> None:
    """Raises ``TypeError`` naming the first leaf whose type is not floating.

    >>> check_differentiable({"kernel": jnp.ones(3)})
    >>> check_differentiable({"count": jnp.arange(3)})
    Traceback (most recent call last):
    TypeError: Parameter 'count' must have a floating type to be moved by a gradient, ...
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(fast):
        dtype = jnp.asarray(leaf).dtype
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"Parameter '{path_name(path)}' must have a floating type to be moved by a "
                f"gradient, but has {dtype}: convert it, or make it a constant of the model."
            )
