"""Convolution as one matrix product over shifted views of the images, laid side by side."""

import jax
import jax.numpy as jnp


def _patches(x, geometry):
    """[m, H, W, c] -> [m, h, w, rows*columns*c]."""
    (rows, columns), (down, right) = geometry.window, geometry.stride
    height, width = geometry.output
    x = jnp.pad(x, ((0, 0), *geometry.padding, (0, 0)))
    views = [
        jax.lax.slice(
            x,
            (0, a, b, 0),
            (x.shape[0], a + (height - 1) * down + 1, b + (width - 1) * right + 1, x.shape[3]),
            (1, down, right, 1),
        )
        for a in range(rows)
        for b in range(columns)
    ]
    return jnp.concatenate(views, axis=-1)


def output(x, kernel, geometry):
    groups, n = x.shape[:2]
    outputs = kernel.shape[-1]
    views = _patches(x.reshape(groups * n, *x.shape[2:]), geometry)
    z = jnp.matmul(views.reshape(groups, -1, views.shape[-1]), kernel.reshape(groups, -1, outputs))
    return z.reshape(groups, n, *geometry.output, outputs)


def input_gradient(kernel, z, geometry):
    groups, n = z.shape[:2]
    channels, outputs = kernel.shape[3:]
    views = jnp.matmul(
        z.reshape(groups, -1, outputs), kernel.reshape(groups, -1, outputs).swapaxes(1, 2)
    )
    views = views.reshape(groups * n, *geometry.output, -1)
    image = jax.ShapeDtypeStruct((groups * n, *geometry.image, channels), z.dtype)
    (x,) = jax.linear_transpose(lambda x: _patches(x, geometry), image)(views)
    return x.reshape(groups, n, *x.shape[1:])


def kernel_gradient(x, z, geometry):
    groups, n = x.shape[:2]
    channels, outputs = x.shape[-1], z.shape[-1]
    views = _patches(x.reshape(groups * n, *x.shape[2:]), geometry)
    views = views.reshape(groups, -1, views.shape[-1])
    if channels <= outputs // 9:
        views = jax.lax.optimization_barrier(views.swapaxes(1, 2))
        k = jnp.matmul(views, jax.lax.optimization_barrier(z).reshape(groups, -1, outputs))
    else:
        k = jnp.einsum("gtp,gto->gpo", views, jax.lax.optimization_barrier(z).reshape(groups, -1, outputs))
    return k.reshape(groups, *geometry.window, channels, outputs)
