"""Winograd's F(2x2, 3x3)."""

import jax
import jax.numpy as jnp
import numpy as np

_IMAGE = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], np.float32)
_KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
_OUTPUT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]], np.float32)
_IMAGE, _KERNEL, _OUTPUT = (np.kron(m, m) for m in (_IMAGE, _KERNEL, _OUTPUT))


def suits(geometry, channels):
    return geometry.window == (3, 3) and geometry.stride == (1, 1) and channels >= 16


def _every_other(x, size, tiles, offsets):
    """[m, H, W, c] -> [len(offsets)**2, m*tiles*c]"""
    views = [
        jax.lax.slice(
            x,
            (0, a, b, 0),
            (x.shape[0], a + 2 * tiles[0] - 1, b + 2 * tiles[1] - 1, x.shape[3]),
            (1, 2, 2, 1),
        )
        for a in range(offsets)
        for b in range(offsets)
    ]
    return jnp.stack([view.reshape(-1) for view in views])


def _image_transform(x, padding, tiles):
    """[m, H, W, c] -> [16, m*tiles, c]."""
    (top, _), (left, _) = padding
    m, height, width, c = x.shape
    th, tw = tiles
    x = jnp.pad(
        x, ((0, 0), (top, 2 * th + 2 - top - height), (left, 2 * tw + 2 - left - width), (0, 0))
    )
    return (_IMAGE.astype(x.dtype) @ _every_other(x, 4, tiles, 4)).reshape(16, -1, c)


def _kernel_transform(k):
    g, _, _, c, o = k.shape
    u = jnp.matmul(_KERNEL.astype(k.dtype), k.reshape(g, 9, c * o))
    return u.reshape(g, 16, c, o).swapaxes(0, 1)


def _product(v, u):
    """[16, g*t, c], [16, g, c, o]"""
    g = u.shape[1]
    return jnp.matmul(v.reshape(16, g, -1, v.shape[-1]), u).reshape(16, -1, u.shape[-1])


def _output_transform(m, count, tiles, size):
    th, tw = tiles
    y = (_OUTPUT.astype(m.dtype) @ m.reshape(16, -1)).reshape(2, 2, count * th, tw, -1)
    rows = [jnp.concatenate([y[a, 0], y[a, 1]], -1).reshape(count * th, 1, -1) for a in range(2)]
    y = jnp.concatenate(rows, 1).reshape(count, 2 * th, 2 * tw, -1)
    return y[:, : size[0], : size[1]]


def _tiles(size):
    return -(-size[0] // 2), -(-size[1] // 2)


def _correlate(x, k, padding, size):
    g, n = x.shape[:2]
    tiles = _tiles(size)
    v = _image_transform(x.reshape(g * n, *x.shape[2:]), padding, tiles)
    z = _output_transform(_product(v, _kernel_transform(k)), g * n, tiles, size)
    return z.reshape(g, n, *z.shape[1:])


def output(x, kernel, geometry):
    return _correlate(x, kernel, geometry.padding, geometry.output)


def input_gradient(kernel, z, geometry):
    flipped = kernel[:, ::-1, ::-1].swapaxes(3, 4)
    padding = tuple((2 - before, 2 - after) for before, after in geometry.padding)
    return _correlate(z, flipped, padding, geometry.image)


def kernel_gradient(x, z, geometry):
    g, n = x.shape[:2]
    c, o = x.shape[-1], z.shape[-1]
    tiles = th, tw = _tiles(geometry.output)
    v = _image_transform(x.reshape(g * n, *x.shape[2:]), geometry.padding, tiles)
    z = z.reshape(g * n, *z.shape[2:])
    z = jnp.pad(z, ((0, 0), (0, 2 * th + 2 - z.shape[1]), (0, 2 * tw - z.shape[2]), (0, 0)))
    z = _every_other(z, 2, tiles, 2).reshape(4, g, -1, o).swapaxes(2, 3)
    m = (_OUTPUT.astype(z.dtype).T @ z.reshape(4, -1)).reshape(16, g, o, -1)
    u = jnp.matmul(m, v.reshape(16, g, -1, c)).transpose(1, 0, 3, 2)
    return jnp.matmul(_KERNEL.astype(u.dtype).T, u.reshape(g, 16, c * o)).reshape(g, 3, 3, c, o)
