"""Shapes of tasks as JSON, so that a run can be restored without its data."""

from collections.abc import Callable
from typing import Any

import jax

from jaxmeta.data import Drawn
from jaxmeta.types import Batch, Carried, Episode, PyTree, Tasked

NAMED: dict[str, Callable[..., Any]] = {
    kind.__name__: kind for kind in (Batch, Carried, Drawn, Episode, Tasked)
}
"""The named tuples that are preserved as such."""


def to_json(tree: PyTree) -> Any:
    """The shapes and types of a pytree's arrays.

    Args:
      tree: arrays, or ``jax.ShapeDtypeStruct``, in dictionaries with strings as keys, lists,
        tuples, and the named tuples of :data:`NAMED`.

    Raises:
      ValueError: the tree holds something else.

    >>> from_json(to_json({"x": jax.numpy.ones((2, 3))}))
    {'x': ShapeDtypeStruct(shape=(2, 3), dtype=float32)}
    """
    kind = type(tree).__name__
    if isinstance(tree, tuple) and NAMED.get(kind) is type(tree):
        return {"kind": kind, "items": [to_json(item) for item in tree]}
    if type(tree) in (tuple, list):
        return {"kind": kind, "items": [to_json(item) for item in tree]}
    if isinstance(tree, dict) and all(isinstance(key, str) for key in tree):
        return {"kind": "dict", "items": {key: to_json(item) for key, item in tree.items()}}
    if hasattr(tree, "shape") and hasattr(tree, "dtype"):
        return {"shape": list(tree.shape), "dtype": str(tree.dtype)}
    raise ValueError(
        f"A task holds {tree if isinstance(tree, dict) else kind}, which shapes.json cannot hold: "
        "make it of arrays in dictionaries with texts as keys, lists, tuples, or "
        f"{', '.join(NAMED)}."
    )


def from_json(stored: Any) -> PyTree:
    """The inverse of :func:`to_json`, as ``jax.ShapeDtypeStruct``."""
    kind = stored.get("kind")
    if kind is None:
        return jax.ShapeDtypeStruct(tuple(stored["shape"]), stored["dtype"])
    if kind == "dict":
        return {key: from_json(item) for key, item in stored["items"].items()}
    items = [from_json(item) for item in stored["items"]]
    if kind in NAMED:
        return NAMED[kind](*items)
    return items if kind == "list" else tuple(items)
