"""A map of a convolution on as many images at a time as a CPU's cache can take."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxmeta.types import Array

BLOCK = 3 * 2**20
"""Bytes to lay out at a time; found by measurement, see docs/performance.md."""
WHOLE = 8 * 2**20
"""Bytes up to which all is laid out at once anyway, as a loop would cost more than it gains."""


def in_blocks(
    apply: Callable[[Array, Array], Array],
    a: Array,
    b: Array,
    gives: str,
    image_bytes: int,
    kernel_bytes: int,
) -> Array:
    """``apply(a, b)``, block by block if there is much to lay out.

    Groups are split first, then the images of one group. A block is several times as large as the
    kernel, which is read for each block.

    Args:
      apply: one of the maps, with operands as in :mod:`jaxmeta.nn.convolution`.
      a: its first operand.
      b: its second.
      gives: which of the maps it is.
      image_bytes: number of bytes that it lays out for an image.
      kernel_bytes: the size of a group's kernel.

    Returns:
      What ``apply`` gives, up to the rounding of sums.
    """
    groups, n = a.shape[0], (b if gives == "input" else a).shape[1]
    images = max(BLOCK, 4 * kernel_bytes) // max(image_bytes, 1)
    if groups * n * image_bytes <= WHOLE or groups * n <= images:
        return apply(a, b)
    if groups > 1:

        def of_groups(block: tuple[Array, Array]) -> Array:
            return in_blocks(apply, *block, gives, image_bytes, kernel_bytes)

        blocks = (_cut(a, images // n), _cut(b, images // n))
        return _joined(jax.lax.map(of_groups, blocks), groups)
    if gives == "output":
        steps = jax.lax.map(lambda x: apply(x[None], b)[0], _cut(a[0], images))
        return _joined(steps, n)[None]
    if gives == "input":
        steps = jax.lax.map(lambda z: apply(a, z[None])[0], _cut(b[0], images))
        return _joined(steps, n)[None]
    pairs = (_cut(a[0], images), _cut(b[0], images))
    return jnp.sum(jax.lax.map(lambda pair: apply(pair[0][None], pair[1][None]), pairs), axis=0)


def _cut(x: Array, most: int) -> Array:
    """Rows ``[m, ...]`` as ``[steps, rows, ...]``, padded with zeros if necessary.

    A step has at most ``most`` rows and, if possible, at least a quarter of that.
    """
    count, most = x.shape[0], max(most, 1)
    even = [rows for rows in range(math.ceil(most / 4), min(most, count) + 1) if count % rows == 0]
    rows = max(even, default=math.ceil(count / math.ceil(count / most)))
    steps = math.ceil(count / rows)
    missing = steps * rows - count
    if missing:
        x = jnp.pad(x, [(0, missing), *[(0, 0)] * (x.ndim - 1)])
    return x.reshape(steps, rows, *x.shape[1:])


def _joined(steps: Array, count: int) -> Array:
    """The inverse of ``_cut``."""
    return steps.reshape(-1, *steps.shape[2:])[:count]
