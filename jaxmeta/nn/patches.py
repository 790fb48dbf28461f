"""The maps of a convolution as one matrix product each: any kernel, stride and padding.

Shifted views of the images lie side by side along the channels, so that a row of the matrix is what
one position of the kernel sees. See :mod:`jaxmeta.nn.convolution` for the operands' shapes.
"""

import jax
import jax.numpy as jnp

from jaxmeta.nn.geometry import Geometry, pad
from jaxmeta.types import Array

FEW = 16
"""Pixels whose outer products are added, which was faster on a CPU than a product of matrices."""


def output(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """Images and kernel give the convolution."""
    groups, n, outputs = *x.shape[:2], kernel.shape[-1]
    z = _flat(_patches(x, geometry)) @ kernel.reshape(groups, -1, outputs)
    return z.reshape(groups, n, *geometry.output, outputs)


def input_gradient(kernel: Array, z: Array, geometry: Geometry) -> Array:
    """Kernel and output give images: the adjoint of laying views side by side."""
    groups, n, outputs = *z.shape[:2], z.shape[-1]
    rows = _flat(z) @ kernel.reshape(groups, -1, outputs).swapaxes(1, 2)
    kind = jax.typeof(z).manual_axis_type
    shape = (groups, n, *geometry.image, kernel.shape[3])
    images = jax.ShapeDtypeStruct(shape, z.dtype, manual_axis_type=kind)
    spread = jax.linear_transpose(lambda x: _patches(x, geometry), images)
    (x,) = spread(rows.reshape(groups, n, *geometry.output, -1))
    return x


def kernel_gradient(x: Array, z: Array, geometry: Geometry) -> Array:
    """Images and output give a kernel."""
    rows, z = _flat(_patches(x, geometry)), _flat(z)
    pixels, size, outputs = *rows.shape[1:], z.shape[-1]
    if geometry.window == (1, 1) and pixels <= FEW and z.dtype.itemsize >= 4:
        products = [rows[:, i, :, None] * z[:, i, None] for i in range(pixels)]
        kernel = sum(products[1:], start=products[0])
    elif size <= outputs:
        # XLA writes a transposed operand out, slowly, so it had better be the small one.
        kernel = rows.swapaxes(1, 2) @ z
    else:
        kernel = (z.swapaxes(1, 2) @ rows).swapaxes(1, 2)
    return kernel.reshape(-1, *geometry.window, x.shape[-1], outputs)


def _patches(x: Array, geometry: Geometry) -> Array:
    """What the kernel sees at each position: ``[g, n, h', w', rows x columns x c]``."""
    (rows, columns), (down, right) = geometry.window, geometry.stride
    height, width = geometry.output
    x = pad(x, geometry.padding)
    # One direction after the other: six views for nine, and as much less for XLA to compile.
    across, along = (width - 1) * right + 1, (height - 1) * down + 1
    x = jnp.concatenate([x[:, :, :, b : b + across : right] for b in range(columns)], axis=-1)
    return jnp.concatenate([x[:, :, a : a + along : down] for a in range(rows)], axis=-1)


def _flat(x: Array) -> Array:
    """A matrix for each group, a row for each pixel."""
    return x.reshape(x.shape[0], -1, x.shape[-1])


MAPS = {"output": output, "input": input_gradient, "kernel": kernel_gradient}
