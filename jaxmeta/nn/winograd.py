r"""The maps of a 3x3 convolution of stride 1 by Winograd's algorithm F(2x2, 3x3).

.. math:: z = A^\top \big[ (G k G^\top) \odot (B^\top d\, B) \big] A

computes 2x2 outputs from a tile d of 4x4 pixels with 16 products in place of 36. Here each of the
16 is a matrix product over channels, and a transform is a small constant matrix times one with the
tiles along its rows. See :mod:`jaxmeta.nn.convolution` for the operands' shapes.

References:
  Lavin and Gray, 2016, Fast Algorithms for Convolutional Neural Networks, section 4.1.
"""

import math

import jax.numpy as jnp
import numpy as np

from jaxmeta.nn.geometry import Geometry, Pair, pad
from jaxmeta.types import Array

# The matrices of F(2, 3). The images' is applied along one direction after the other, since tiles
# overlap and are cut as strided views. Kernel and output have no such views: a Kronecker product
# transforms both directions at once; its rows are places of the transform, its columns of a tile.
_B = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
_KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
_KERNEL = np.kron(_KERNEL, _KERNEL)
_OUTPUT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])
_OUTPUT = np.kron(_OUTPUT, _OUTPUT)


def suits(geometry: Geometry, channels: int, dtype: jnp.dtype) -> bool:
    """Whether it applies and pays: with few channels or few pixels, the transforms cost more."""
    applies = geometry.window == (3, 3) and geometry.stride == (1, 1)
    worthwhile = channels >= 16 and min(geometry.output) >= 8
    precise = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits >= 32
    return applies and worthwhile and precise


def laid_out(geometry: Geometry, channels: int, outputs: int) -> int:
    """How many numbers all tiles of an image have."""
    return 16 * math.prod(_tiles(geometry.output)) * max(channels, outputs)


def output(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """Images and kernel give the convolution."""
    return _correlate(x, kernel, geometry.padding, geometry.output)


def input_gradient(kernel: Array, z: Array, geometry: Geometry) -> Array:
    """Kernel and output give images: the convolution with the kernel turned around."""
    # An output in row i sees row i + a - p of the image. Seen from there, it is at a' = 2 - a, with
    # a padding of p' = 2 - p: the kernel is reversed.
    turned = kernel[:, ::-1, ::-1].swapaxes(3, 4)
    (top, bottom), (left, right) = geometry.padding
    return _correlate(z, turned, ((2 - top, 2 - bottom), (2 - left, 2 - right)), geometry.image)


def kernel_gradient(x: Array, z: Array, geometry: Geometry) -> Array:
    """Images and output give a kernel."""
    groups, channels, outputs = x.shape[0], x.shape[-1], z.shape[-1]
    down, right = _tiles(geometry.output)
    tiles = _image_tiles(x, geometry.padding, (down, right))
    # One more row of padding than the tiles need: XLA then writes the padded array to memory,
    # instead of computing z anew for each of the views.
    z = pad(z, ((0, 2 * down + 2 - z.shape[2]), (0, 2 * right - z.shape[3])))
    views = [
        z[:, :, i : i + 2 * down - 1 : 2, j : j + 2 * right - 1 : 2]
        for j in range(2)
        for i in range(2)
    ]
    # Transposed before the transform, when there is only a quarter as much to transpose.
    columns = jnp.stack(views).reshape(4, groups, -1, outputs).swapaxes(2, 3)
    z = _transform(_OUTPUT.T, columns)
    products = (z @ tiles).swapaxes(2, 3)
    kernel = _transform(_KERNEL.T, products)
    return kernel.reshape(3, 3, groups, channels, outputs).transpose(2, 1, 0, 3, 4)


def _correlate(x: Array, kernel: Array, padding: tuple[Pair, Pair], size: Pair) -> Array:
    groups, n, *_ = x.shape
    channels, outputs = kernel.shape[3:]
    down, right = _tiles(size)
    kernel = kernel.transpose(2, 1, 0, 3, 4).reshape(9, groups, channels, outputs)
    products = _image_tiles(x, padding, (down, right)) @ _transform(_KERNEL, kernel)
    z = _transform(_OUTPUT, products).reshape(2, 2, groups * n * down, right, outputs)
    # Left beside right, then upper above lower: concatenations of whole rows of memory.
    halves = [jnp.concatenate([z[0, i], z[1, i]], -1) for i in range(2)]
    halves = [half.reshape(-1, 1, 2 * right * outputs) for half in halves]
    z = jnp.concatenate(halves, 1).reshape(groups, n, 2 * down, 2 * right, outputs)
    return z[:, :, : size[0], : size[1]]


def _image_tiles(x: Array, padding: tuple[Pair, Pair], tiles: Pair) -> Array:
    """The transform of all tiles, ``[16, g, tiles, c]``."""
    (top, _), (left, _) = padding
    height, width = (2 * count + 2 for count in tiles)
    x = pad(x, ((top, height - top - x.shape[2]), (left, width - left - x.shape[3])))
    down, right = tiles
    rows = jnp.stack([x[:, :, a : a + 2 * down - 1 : 2] for a in range(4)])
    x = _transform(_B, rows)
    columns = jnp.stack([x[:, :, :, :, b : b + 2 * right - 1 : 2] for b in range(4)])
    x = _transform(_B, columns)
    return x.reshape(16, x.shape[2], -1, x.shape[-1])


def _transform(matrix: np.ndarray, x: Array) -> Array:
    """The matrix times ``x`` along its first axis."""
    product = jnp.asarray(matrix, x.dtype) @ x.reshape(x.shape[0], -1)
    return product.reshape(-1, *x.shape[1:])


def _tiles(size: Pair) -> Pair:
    """How many tiles of 2x2 cover the outputs."""
    return -(-size[0] // 2), -(-size[1] // 2)


MAPS = {"output": output, "input": input_gradient, "kernel": kernel_gradient}
