"""The maps of a convolution as one matrix product each: any kernel, stride and padding.

Shifted views of the images are concatenated along the channels, so that a row of the matrix is what
one position of the kernel sees. See :mod:`jaxmeta.nn.convolution` for the operands' shapes.
"""

import math

import jax
import jax.numpy as jnp

from jaxmeta.distributed.varying import varying_alike
from jaxmeta.nn.geometry import Geometry, pad
from jaxmeta.types import Array

FEW = 16
"""Pixels up to which a CPU adds outer products faster than it multiplies matrices."""


def output(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """Images and kernel give the convolution."""
    groups, n, outputs = *x.shape[:2], kernel.shape[-1]
    z = _flat(_patches(x, geometry)) @ kernel.reshape(groups, -1, outputs)
    return z.reshape(groups, n, *geometry.output, outputs)


def input_gradient(kernel: Array, z: Array, geometry: Geometry) -> Array:
    """Kernel and output give images: the adjoint of concatenating the views."""
    groups, n, outputs = *z.shape[:2], z.shape[-1]
    rows = _flat(z) @ kernel.reshape(groups, -1, outputs).swapaxes(1, 2)
    # Zeros and not just a shape, which in a shard_map could not say what varies.
    images = jnp.zeros((groups, n, *geometry.image, kernel.shape[3]), z.dtype)
    images, rows = varying_alike(images, rows)
    _, spread = jax.vjp(lambda x: _patches(x, geometry), images)
    (x,) = spread(rows.reshape(groups, n, *geometry.output, -1))
    return x


def kernel_gradient(x: Array, z: Array, geometry: Geometry) -> Array:
    """Images and output give a kernel."""
    rows, z = _flat(_patches(x, geometry)), _flat(z)
    size, outputs = rows.shape[-1], z.shape[-1]
    if size <= outputs:
        # XLA writes out a transposed operand, which is slow, so the smaller one is transposed.
        kernel = rows.swapaxes(1, 2) @ z
    else:
        kernel = (z.swapaxes(1, 2) @ rows).swapaxes(1, 2)
    return kernel.reshape(-1, *geometry.window, x.shape[-1], outputs)


def laid_out(geometry: Geometry, channels: int, outputs: int) -> int:
    """How many numbers are laid out for each image; none for single pixels."""
    if geometry.window == geometry.stride == (1, 1):
        return 0
    return math.prod(geometry.output) * math.prod(geometry.window) * channels


def are_few(z: Array, geometry: Geometry) -> bool:
    """Whether :func:`sum_of_outer_products` pays on a CPU."""
    pixels = z.shape[1] * z.shape[2] * z.shape[3]
    return geometry.window == (1, 1) and pixels <= FEW and z.dtype.itemsize >= 4


def sum_of_outer_products(x: Array, z: Array, geometry: Geometry) -> Array:
    """:func:`kernel_gradient` of a few single pixels."""
    rows, z = _flat(_patches(x, geometry)), _flat(z)
    products = [rows[:, i, :, None] * z[:, i, None] for i in range(z.shape[1])]
    kernel = sum(products[1:], start=products[0])
    return kernel.reshape(-1, *geometry.window, x.shape[-1], z.shape[-1])


def _patches(x: Array, geometry: Geometry) -> Array:
    """What the kernel sees at each position: ``[g, n, h', w', rows x columns x c]``."""
    (rows, columns), (down, right) = geometry.window, geometry.stride
    height, width = geometry.output
    x = pad(x, geometry.padding)
    # One direction after the other: six views instead of nine, and that much less to compile.
    across, along = (width - 1) * right + 1, (height - 1) * down + 1
    x = jnp.concatenate([x[:, :, :, b : b + across : right] for b in range(columns)], axis=-1)
    return jnp.concatenate([x[:, :, a : a + along : down] for a in range(rows)], axis=-1)


def _flat(x: Array) -> Array:
    """A matrix for each group, a row for each pixel."""
    return x.reshape(x.shape[0], -1, x.shape[-1])


MAPS = {"output": output, "input": input_gradient, "kernel": kernel_gradient}
