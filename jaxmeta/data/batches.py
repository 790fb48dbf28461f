"""Checks and conversions of a user's own arrays."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.data.decode import decode_inputs
from jaxmeta.types import UNLABELED, Batch, Episode, PyTree


def host_arrays(x: PyTree) -> PyTree:
    """A user's own arrays as they are stored: numpy arrays of uint8, int32 or float32.

    Args:
      x: any pytree of arrays ``[n, ...]``; a list is a list of n examples, which are stacked.

    Raises:
      ValueError: a value is not finite, is not a number, or is an integer beyond 32 bits; or the
        examples of a list differ in shape.
    """

    def is_list(node: Any) -> bool:
        return isinstance(node, list)

    def convert(node: Any) -> Any:
        if not is_list(node):
            return host_array(node)
        try:
            rows = jax.tree.map(
                lambda *rows: np.stack([*map(np.asarray, rows)]), *node, is_leaf=is_list
            )
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"The {len(node)} examples of a list cannot be stacked ({error}); give examples of "
                "one structure and shape."
            ) from error
        return jax.tree.map(host_array, rows)

    return jax.tree.map(convert, x, is_leaf=is_list)


def host_array(values: Any) -> np.ndarray:
    """One array of :func:`host_arrays`."""
    values = np.asarray(values)
    if values.dtype == np.uint8:
        return values
    if np.issubdtype(values.dtype, np.integer):
        bounds = np.iinfo(np.int32)
        beyond = values[(values < bounds.min) | (values > bounds.max)]
        if beyond.size:
            raise ValueError(
                f"The integer {beyond.flat[0]} does not fit into 32 bits; give smaller numbers."
            )
        return values.astype(np.int32, copy=False)
    # jnp's, which knows bfloat16.
    if not (values.dtype == bool or jnp.issubdtype(values.dtype, np.floating)):
        raise ValueError(f"The inputs have type {values.dtype}; give arrays of numbers.")
    with np.errstate(over="ignore"):  # refused below
        values = values.astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        bad = np.argwhere(~np.isfinite(values))[0].tolist()
        raise ValueError(f"The value at {bad} is {values[tuple(bad)]}; remove or replace it.")
    return values


def lengths(x: PyTree) -> list[int]:
    """The length of each array's leading axis, 0 if there is none."""
    return [leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(x)]


def described(tree: PyTree) -> PyTree:
    """Types and shapes of arrays, for error messages."""
    return jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", tree)


def make_inputs(x: PyTree) -> PyTree:
    """Makes model inputs from a user's own arrays, such as queries that have no labels.

    Args:
      x: any pytree of arrays ``[n, ...]``, or a list of n examples. uint8 becomes float32 in
        ``[0, 1]``; other integers, such as tokens, become int32; floats and booleans, such as
        masks, become float32.

    Raises:
      ValueError: a value is not finite, is not a number, or is an integer beyond 32 bits; or the
        examples of a list differ in shape.

    >>> import numpy as np
    >>> make_inputs({"image": np.array([[0, 255]], np.uint8), "tokens": [[7, 8]]})
    {'image': Array([[0., 1.]], dtype=float32), 'tokens': Array([[7, 8]], dtype=int32)}
    """
    return decode_inputs(jax.tree.map(jnp.asarray, host_arrays(x)))


def make_batch(x: PyTree, y: Any, ways: int | None = None, *, unlabeled: bool = False) -> Batch:
    """Checks a user's own arrays and makes a :class:`~jaxmeta.types.Batch` from them.

    Runs on concrete arrays, outside ``jit``.

    Args:
      x: inputs, any pytree of arrays ``[n, ...]`` or a list of n examples, converted as by
        :func:`make_inputs`.
      y: integer labels ``[n]``, or float targets ``[n, d]``.
      ways: the number of classes; labels must lie in ``[0, ways)``. ``None`` sets no upper bound.
      unlabeled: allow the label -1, which marks an example without a label in a support set. It has
        this meaning only for classes, so ``ways`` must be given.

    Returns:
      The batch, its mask all ones.

    Raises:
      ValueError: the lengths differ, ``y`` has another shape, a value is not finite, or a label is
        out of range.

    >>> batch = make_batch([[0.5, 1.0], [2.0, 3.0]], [1, 0], ways=2)
    >>> batch.x.shape, batch.y, batch.mask
    ((2, 2), Array([1, 0], dtype=int32), Array([1., 1.], dtype=float32))
    """
    x = make_inputs(x)
    y = np.asarray(y)
    if y.ndim == 0 or set(lengths(x)) != {y.shape[0]}:
        raise ValueError(
            f"The batch has {lengths(x)} inputs and labels of shape {list(y.shape)}; give both the "
            "same leading axis."
        )
    labels = np.issubdtype(y.dtype, np.integer)
    if y.ndim != (1 if labels or ways is not None else 2):
        raise ValueError(
            f"y has type {y.dtype} and shape {list(y.shape)}; give integer labels [n] or float "
            "targets [n, d]."
        )
    if not labels:
        if ways is not None:
            raise ValueError(
                f"The labels of {ways} ways have type {y.dtype}; give integers, or leave ways out "
                "for regression targets."
            )
        return Batch(x, make_inputs(y), jnp.ones(y.shape[0], jnp.float32))
    # Only among labels of known classes does -1 mean an example without a label.
    least = UNLABELED if unlabeled and ways is not None else 0
    wrong = y[(y < least) | (y >= (np.inf if ways is None else ways))]
    if wrong.size:
        problem = "negative" if ways is None else f"outside 0..{ways - 1} ({ways} ways)"
        remedy = "number the classes from 0"
        if unlabeled:
            remedy += f", and label examples of no known class {UNLABELED}"
            remedy += " and give ways" if ways is None else ""
        raise ValueError(f"Label {wrong.flat[0]} is {problem}; {remedy}.")
    return Batch(x, jnp.asarray(host_array(y), jnp.int32), jnp.ones(y.shape[0], jnp.float32))


def make_episode(
    support_x: PyTree, support_y: Any, query_x: PyTree, query_y: Any, ways: int | None = None
) -> Episode:
    """Checks a user's own task: two :func:`make_batch` whose examples have the same shape.

    Args:
      support_x: inputs to learn from, a pytree of arrays ``[n, ...]``.
      support_y: their labels ``[n]``, -1 where there is none (``ways`` must then be given), or
        targets ``[n, d]``.
      query_x: inputs to predict on, a pytree of arrays ``[m, ...]``.
      query_y: their labels ``[m]`` or targets ``[m, d]``.
      ways: the number of classes, as in :func:`make_batch`.

    Raises:
      ValueError: as for :func:`make_batch`, or the support and query examples differ in shape.

    >>> task = make_episode([[0.0], [1.0]], [0, 1], [[0.2]], [0], ways=2)
    >>> task.support.x.shape, task.query.y
    ((2, 1), Array([0], dtype=int32))
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
