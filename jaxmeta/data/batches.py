"""The checked boundary for arrays that a user brings along."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.types import UNLABELED, Array, Batch, Episode, PyTree


def make_inputs(x: PyTree) -> PyTree:
    """Makes inputs of a user's own arrays, as the episodes of this library have them.

    Args:
      x: any pytree of arrays ``[n, ...]``. uint8 becomes float32 in ``[0, 1]``, floats become
        float32, other integers (say, tokens) int32.

    Raises:
      ValueError: a value is not finite.
    """

    def convert(values: Any) -> Array:
        values = np.asarray(values)
        if values.dtype == np.uint8:
            return jnp.asarray(values.astype(np.float32) * np.float32(1 / 255))
        if np.issubdtype(values.dtype, np.integer):
            return jnp.asarray(values, jnp.int32)
        values = values.astype(np.float32)
        if not np.isfinite(values).all():
            bad = np.argwhere(~np.isfinite(values))[0].tolist()
            raise ValueError(f"The value at {bad} is {values[tuple(bad)]}; remove or replace it.")
        return jnp.asarray(values)

    return jax.tree.map(convert, x)


def make_batch(x: PyTree, y: Any, ways: int | None = None, *, unlabeled: bool = False) -> Batch:
    """Checks a user's own arrays and makes a :class:`~jaxmeta.types.Batch` of them.

    Runs on concrete arrays, outside of ``jit``.

    Args:
      x: inputs, any pytree of arrays ``[n, ...]``, converted as by :func:`make_inputs`.
      y: integer labels ``[n]``, or float targets ``[n, d]``.
      ways: the number of classes; labels must lie in ``[0, ways)``. ``None`` sets no upper bound.
      unlabeled: allow the label -1, an example without one, which a support set may have.

    Returns:
      The batch, its mask all ones.

    Raises:
      ValueError: lengths differ, ``y`` has another shape, a value is not finite, or a label is out
        of range.
    """
    x = make_inputs(x)
    y = np.asarray(y)
    lengths = [leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(x)]
    if y.ndim == 0 or not lengths or set(lengths) != {y.shape[0]}:
        raise ValueError(
            f"A batch needs as many inputs as labels and got {lengths} inputs for labels of shape "
            f"{list(y.shape)}; give both the same leading axis."
        )
    labels = np.issubdtype(y.dtype, np.integer)
    if y.ndim != (1 if labels or ways is not None else 2):
        raise ValueError(
            f"The batch has {y.dtype} y of shape {list(y.shape)}; give integer labels as [n] or "
            "float targets as [n, d]."
        )
    if not labels:
        if ways is not None:
            raise ValueError(
                f"Labels of {ways} ways must be integers and are {y.dtype}; convert them, or leave "
                "ways out for regression targets."
            )
        return Batch(x, make_inputs(y), jnp.ones(y.shape[0], jnp.float32))
    least = UNLABELED if unlabeled else 0
    wrong = y[(y < least) | (y >= (np.inf if ways is None else ways))]
    if wrong.size:
        problem = "negative" if ways is None else f"outside 0..{ways - 1} ({ways} ways)"
        nameless = f", and give {UNLABELED} to those without" if unlabeled else ""
        raise ValueError(
            f"Label {wrong.flat[0]} is {problem}; number the classes from 0{nameless}."
        )
    return Batch(x, jnp.asarray(y, jnp.int32), jnp.ones(y.shape[0], jnp.float32))


def make_episode(
    support_x: PyTree, support_y: Any, query_x: PyTree, query_y: Any, ways: int | None = None
) -> Episode:
    """Checks a user's own task: two :func:`make_batch` whose examples have the same shape.

    Args:
      support_x: inputs to learn from, a pytree of arrays ``[n, ...]``.
      support_y: their labels ``[n]``, -1 where there is none, or targets ``[n, d]``.
      query_x: inputs to be judged on, a pytree of arrays ``[m, ...]``.
      query_y: their labels ``[m]`` or targets ``[m, d]``.
      ways: the number of classes, as in :func:`make_batch`.

    Raises:
      ValueError: as :func:`make_batch`, or support and query examples differ in shape.
    """
    support = make_batch(support_x, support_y, ways, unlabeled=True)
    query = make_batch(query_x, query_y, ways)
    shapes = [jax.tree.map(lambda leaf: leaf.shape[1:], (b.x, b.y)) for b in (support, query)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"Support examples have shapes {shapes[0]} and query examples {shapes[1]} (inputs, "
            "labels); give both the same."
        )
    return Episode(support, query)
