"""The static numbers of a convolution."""

from typing import NamedTuple

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
            (size + before + after - window) // stride + 1
            for size, window, stride, (before, after) in zip(*self, strict=True)
        )
        return height, width
