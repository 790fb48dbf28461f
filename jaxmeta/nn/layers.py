"""Layers as pure functions of arrays: what the models of this library are made of."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.types import Array


def conv2d(x: Array, kernel: Array, stride: int = 1) -> Array:
    r"""Convolution with zero ("SAME") padding, lowered to one matrix product.

    .. math:: z_{nijo} = \sum_{abc} x_{n,\,si+a-p,\,sj+b-q,\,c}\; k_{abco}

    Shifted, strided views of ``x`` are laid side by side along the channels and multiplied by the
    flattened kernel. Under ``vmap`` over per-task kernels this stays a batched matrix product,
    where ``lax.conv_general_dilated`` becomes a grouped convolution whose gradient is 10 to 20
    times slower; and it stays a matrix product under any order of differentiation.

    Args:
      x: images ``[n, height, width, channels]``.
      kernel: ``[rows, columns, channels, outputs]``.
      stride: step between outputs, in pixels, the same in both directions.

    Returns:
      ``[n, ceil(height / stride), ceil(width / stride), outputs]``.

    Raises:
      ValueError: image and kernel differ in channels.
    """
    n, height, width, channels = x.shape
    rows, columns, kernel_channels, outputs = kernel.shape
    if channels != kernel_channels:
        raise ValueError(
            f"Images have {channels} channels but the kernel takes {kernel_channels}: give images "
            "like those that the model was made for."
        )
    out_height, out_width = -(-height // stride), -(-width // stride)

    def pads(size: int, out: int, window: int) -> tuple[int, int]:
        total = max((out - 1) * stride + window - size, 0)
        return total // 2, total - total // 2

    x = jnp.pad(
        x, ((0, 0), pads(height, out_height, rows), pads(width, out_width, columns), (0, 0))
    )
    shifted = [
        jax.lax.slice(
            x,
            (0, a, b, 0),
            (n, a + (out_height - 1) * stride + 1, b + (out_width - 1) * stride + 1, channels),
            (1, stride, stride, 1),
        )
        for a in range(rows)
        for b in range(columns)
    ]
    patches = jnp.concatenate(shifted, axis=-1)
    return patches @ kernel.reshape(rows * columns * channels, outputs)


def max_pool(x: Array) -> Array:
    """Maximum over 2x2 windows of ``[n, height, width, c]``, an odd last row or column dropped."""
    n, height, width, channels = x.shape
    height, width = height // 2, width // 2
    windows = x[:, : 2 * height, : 2 * width].reshape(n, height, 2, width, 2, channels)
    return jnp.max(windows, axis=(2, 4))


class Statistics(NamedTuple):
    """Mean and (biased) variance of each channel, ``[channels]``."""

    mean: Array
    variance: Array


def batch_norm(
    x: Array,
    scale: Array,
    offset: Array,
    statistics: Statistics,
    mask: Array | None,
    batch_statistics: bool,
    epsilon: float = 1e-5,
) -> tuple[Array, Statistics]:
    r"""Normalises each channel: :math:`\gamma (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta`.

    Args:
      x: ``[n, ..., channels]``.
      scale: gamma, ``[channels]``.
      offset: beta, ``[channels]``.
      statistics: used when ``batch_statistics`` is false.
      mask: ``[n]``; examples with mask 0 take no part in the statistics. ``None`` is all ones.
      batch_statistics: use the statistics of ``x``, not the given ones.
      epsilon: keeps a constant channel finite.

    Returns:
      The normalised array and the statistics that normalised it.

    References:
      Ioffe and Szegedy, 2015, Batch Normalization, Algorithm 1.
    """
    channels = x.shape[-1]

    def spread(vector: Array) -> Array:
        return vector.reshape((1,) * (x.ndim - 1) + (channels,))

    if batch_statistics:
        axes = tuple(range(x.ndim - 1))
        if mask is None:
            mean = jnp.mean(x, axis=axes)
            variance = jnp.mean((x - spread(mean)) ** 2, axis=axes)
        else:
            weight = mask / jnp.maximum(jnp.sum(mask), 1) * (x.shape[0] * channels / x.size)
            weight = weight.astype(x.dtype).reshape((-1,) + (1,) * (x.ndim - 1))
            mean = jnp.sum(weight * x, axis=axes)
            variance = jnp.sum(weight * (x - spread(mean)) ** 2, axis=axes)
        statistics = Statistics(mean, variance)
    multiplier = scale * jax.lax.rsqrt(statistics.variance + epsilon)
    return (x - spread(statistics.mean)) * spread(multiplier) + spread(offset), statistics
