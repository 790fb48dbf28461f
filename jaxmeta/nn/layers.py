"""Layers as pure functions of arrays: what the models of this library are made of."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.types import Array


def max_pool(x: Array) -> Array:
    """Maximum over 2x2 windows of ``[n, height, width, c]``, an odd last row or column dropped.

    Where several of a window are the largest, the derivative is the mean of theirs.
    """
    n, height, width, channels = x.shape
    height, width = height // 2, width // 2
    windows = x[:, : 2 * height, : 2 * width].reshape(n, height, 2, width, 2, channels)
    return _largest(windows)


@jax.custom_jvp
def _largest(windows: Array) -> Array:
    return jnp.max(windows, axis=(2, 4))


@_largest.defjvp
def _largest_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # What is larger does not change with an infinitesimal step, so all but the tangent is constant
    # here, and a second derivative adds no pass over the windows.
    (windows,), (tangent,) = primals, tangents
    largest = _largest(windows)
    fixed, top = jax.lax.stop_gradient((windows, largest))
    ties = sum(
        (fixed[:, :, i, :, j] == top).astype(tangent.dtype) for i in range(2) for j in range(2)
    )
    chosen = jnp.where(fixed == top[:, :, None, :, None], tangent, 0)
    return largest, jnp.sum(chosen, axis=(2, 4)) / ties


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
    pool: bool = False,
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
        if mask is None:
            weight = jnp.full((1,) * x.ndim, x.shape[-1] / x.size, x.dtype)
        else:
            weight = (mask / jnp.maximum(jnp.sum(mask), 1) * (x.shape[0] * x.shape[-1] / x.size)).astype(x.dtype).reshape((-1,) + (1,) * (x.ndim - 1))
        statistics = moments(x, weight)
    multiplier = scale * jax.lax.rsqrt(statistics.variance + epsilon)
    if pool:
        sign = jax.lax.stop_gradient(jnp.where(scale < 0, -1.0, 1.0).astype(x.dtype))
        x = max_pool(x * spread(sign)) * spread(sign)
    return (x - spread(statistics.mean)) * spread(multiplier) + spread(offset), statistics


@jax.custom_jvp
def moments(x: Array, weight: Array) -> Statistics:
    axes = tuple(range(x.ndim - 1))
    mean = jnp.sum(weight * x, axis=axes)
    return Statistics(mean, jnp.sum(weight * (x - mean) ** 2, axis=axes))


@moments.defjvp
def _moments_jvp(primals, tangents):
    (x, weight), (dx, _) = primals, tangents
    out = moments(x, weight)
    axes = tuple(range(x.ndim - 1))
    return out, Statistics(jnp.sum(weight * dx, axes), 2 * jnp.sum(weight * (x - out.mean) * dx, axes))
