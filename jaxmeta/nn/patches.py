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
    groups, n = x.shape[:2]
    rows = jnp.concatenate(_views(x, geometry), axis=-1).reshape(groups, -1, kernel[0, ..., 0].size)
    z = rows @ kernel.reshape(groups, -1, kernel.shape[-1])
    return z.reshape(groups, n, *geometry.output, -1)


def input_gradient(kernel: Array, z: Array, geometry: Geometry) -> Array:
    """Kernel and output give images: the adjoint of laying views side by side."""
    groups, n = z.shape[:2]
    outputs = z.shape[-1]
    rows = z.reshape(groups, -1, outputs) @ kernel.reshape(groups, -1, outputs).swapaxes(1, 2)
    window = rows.reshape(groups, n, *geometry.output, -1, kernel.shape[3])
    kind = jax.typeof(z).manual_axis_type
    shape = (groups, n, *geometry.image, kernel.shape[3])
    images = jax.ShapeDtypeStruct(shape, z.dtype, manual_axis_type=kind)
    spread = jax.linear_transpose(lambda x: _views(x, geometry), images)
    (x,) = spread([window[..., i, :] for i in range(window.shape[-2])])
    return x


def kernel_gradient(x: Array, z: Array, geometry: Geometry) -> Array:
    """Images and output give a kernel."""
    groups, channels, outputs = x.shape[0], x.shape[-1], z.shape[-1]
    views = _views(x, geometry)
    z = z.reshape(groups, -1, outputs)
    if len(views) == 1 and z.shape[1] <= FEW and z.dtype.itemsize >= 4:
        (rows,) = (view.reshape(groups, -1, channels) for view in views)
        products = [rows[:, i, :, None] * z[:, i, None] for i in range(z.shape[1])]
        kernel = sum(products[1:], start=products[0])
    elif len(views) * channels <= outputs:
        # XLA writes a transposed operand out, slowly, so it had better be the small one.
        columns = jnp.stack([view.reshape(groups, -1, channels) for view in views], axis=1)
        kernel = columns.swapaxes(2, 3).reshape(groups, -1, z.shape[1]) @ z
    else:
        rows = jnp.concatenate(views, axis=-1).reshape(groups, z.shape[1], -1)
        kernel = (z.swapaxes(1, 2) @ rows).swapaxes(1, 2)
    return kernel.reshape(groups, *geometry.window, channels, outputs)


def _views(x: Array, geometry: Geometry) -> list[Array]:
    """What each element of the kernel meets: rows x columns views ``[g, n, h', w', c]``."""
    (rows, columns), (down, right) = geometry.window, geometry.stride
    height, width = geometry.output
    x = pad(x, geometry.padding)
    return [
        x[:, :, a : a + (height - 1) * down + 1 : down, b : b + (width - 1) * right + 1 : right]
        for a in range(rows)
        for b in range(columns)
    ]


MAPS = {"output": output, "input": input_gradient, "kernel": kernel_gradient}
