"""A map of a convolution on as many images at a time as a CPU's cache bears."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxmeta.types import Array

BLOCK = 3 * 2**20
"""Bytes laid out at a time; found by measurement, see docs/performance.md."""


def in_blocks(
    apply: Callable[[Array, Array], Array], a: Array, b: Array, gives: str, bytes_an_image: int
) -> Array:
    """``apply(a, b)``, image after image where they are many.

    A group with more images than a block holds becomes several groups, with the same kernel; then
    as many groups as a block holds are computed at a time. What is missing at the end is zeros.

    Args:
      apply: one of the maps, of operands as in :mod:`jaxmeta.nn.convolution`.
      a: its first operand.
      b: its second.
      gives: which of the maps it is.
      bytes_an_image: what the map lays out for each image.
    """
    of_images = {"output": (True, False), "input": (False, True), "kernel": (True, True)}[gives]
    groups, n = a.shape[0], (b if gives == "input" else a).shape[1]
    most = max(BLOCK // bytes_an_image, 1)
    if groups * n <= most:
        return apply(a, b)
    pieces, size = _cut(n, most)
    steps, together = _cut(groups * pieces, max(most // size, 1))

    def arrange(x: Array, images: bool) -> Array:
        if images:
            x = _filled(x, 1, pieces * size)
            x = x.reshape(-1, size, *x.shape[2:])
        else:
            x = jnp.repeat(x, pieces, axis=0)
        return _filled(x, 0, steps * together).reshape(steps, together, *x.shape[1:])

    operands = [arrange(x, images) for x, images in zip((a, b), of_images, strict=True)]
    out = jax.lax.map(lambda block: apply(*block), tuple(operands))
    out = out.reshape(-1, *out.shape[2:])[: groups * pieces]
    if gives == "kernel":
        return out.reshape(groups, pieces, *out.shape[1:]).sum(axis=1)
    return out.reshape(groups, -1, *out.shape[2:])[:, :n]


def _cut(count: int, most: int) -> tuple[int, int]:
    """How many pieces, and the size of one: without a rest, if they need not be small for that."""
    whole = [size for size in range(-(-most // 4), min(most, count) + 1) if count % size == 0]
    size = max(whole, default=math.ceil(count / math.ceil(count / most)))
    return math.ceil(count / size), size


def _filled(x: Array, axis: int, size: int) -> Array:
    """With zeros up to a size."""
    missing = [(0, size - x.shape[i] if i == axis else 0) for i in range(x.ndim)]
    return jnp.pad(x, missing) if size > x.shape[axis] else x
