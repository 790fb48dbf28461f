"""The static numbers of a convolution."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.types import Array

Pair = tuple[int, int]


class Geometry(NamedTuple):
    """What the three maps of a convolution share.

    Attributes:
      image: height and width of the images.
      window: rows and columns of the kernel.
      stride: step between outputs, in pixels, down and to the right.
      padding: zeros before and after the image, vertically and horizontally.
    """

    image: Pair
    window: Pair
    stride: Pair
    padding: tuple[Pair, Pair]

    @property
    def output(self) -> Pair:
        """Height and width of the output."""
        height, width = (
            max((size + before + after - window) // stride + 1, 0)
            for size, window, stride, (before, after) in zip(*self, strict=True)
        )
        return height, width


def pad(x: Array, padding: tuple[Pair, Pair]) -> Array:
    """Adds zeros around the images, or crops where a number is negative."""
    none = (0, 0, 0)
    zero = jnp.zeros((), x.dtype)
    return jax.lax.pad(x, zero, (none, none, (*padding[0], 0), (*padding[1], 0), none))
