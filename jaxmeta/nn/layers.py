"""Layers as pure functions of arrays: what the models of this library are made of."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.types import Array


def max_pool(x: Array) -> Array:
    """Maximum over 2x2 windows of ``[n, height, width, c]``, an odd last row or column dropped.

    Where several of a window are the largest, the derivative is the mean of theirs.

    >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1)).ravel().tolist()
    [5.0, 7.0, 13.0, 15.0]
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
) -> tuple[Array, Statistics]:
    """Normalizes each channel by the statistics of ``x``, or by the given ones.

    Args:
      x: ``[n, ..., channels]``.
      scale: as :func:`normalize`.
      offset: as :func:`normalize`.
      statistics: used when ``batch_statistics`` is false.
      mask: as :func:`moments`.
      batch_statistics: use the statistics of ``x``, not the given ones.
      epsilon: as :func:`normalize`.

    Returns:
      The normalized array and the statistics that normalized it.

    References:
      Ioffe and Szegedy, 2015, Batch Normalization, Algorithm 1.

    >>> x, given = jnp.array([[1.0], [3.0]]), Statistics(jnp.zeros(1), jnp.ones(1))
    >>> y, used = batch_norm(x, jnp.ones(1), jnp.zeros(1), given, None, True)
    >>> used.mean.item(), y.ravel().round(3).tolist()
    (2.0, [-1.0, 1.0])
    """
    if batch_statistics:
        statistics = moments(x, mask)
    return normalize(x, statistics, scale, offset, epsilon), statistics


def normalize(
    x: Array, statistics: Statistics, scale: Array, offset: Array, epsilon: float = 1e-5
) -> Array:
    r"""Normalizes each channel: :math:`\gamma (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta`.

    Args:
      x: ``[n, ..., channels]``.
      statistics: mu and sigma squared.
      scale: gamma, ``[channels]``.
      offset: beta, ``[channels]``.
      epsilon: keeps a constant channel finite.

    >>> statistics = Statistics(jnp.full(1, 2.0), jnp.full(1, 4.0))
    >>> normalize(jnp.array([[6.0]]), statistics, jnp.ones(1), jnp.ones(1), epsilon=0.0).item()
    3.0
    """
    spread = jax.lax.rsqrt(statistics.variance + epsilon)
    multiplier = scale.astype(spread.dtype) * spread
    mean, multiplier, offset = (
        _spread(v.astype(x.dtype), x) for v in (statistics.mean, multiplier, offset)
    )
    return (x - mean) * multiplier + offset


def moments(x: Array, mask: Array | None = None) -> Statistics:
    """Mean and (biased) variance of each channel over examples and positions.

    Args:
      x: ``[n, ..., channels]``.
      mask: ``[n]``; examples with mask 0 take no part. ``None`` is all ones.

    >>> mean, variance = moments(jnp.array([[1.0], [3.0], [9.0]]), jnp.array([1.0, 1.0, 0.0]))
    >>> mean.item(), variance.item()
    (2.0, 1.0)
    """
    # Sums of many terms, so never in fewer than 32 bits.
    wide = x.dtype if jnp.finfo(x.dtype).bits >= 32 else jnp.dtype("float32")
    share = jnp.ones(x.shape[0], wide) if mask is None else mask.astype(wide)
    return _moments(x.astype(wide), share / jnp.maximum(jnp.sum(share), 1))


@jax.custom_jvp
def _moments(x: Array, share: Array) -> Statistics:
    mean = _mean(x, share)
    return Statistics(mean, _mean((x - _spread(mean, x)) ** 2, share))


@_moments.defjvp
def _moments_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Statistics, Statistics]:
    # The variance does not change with the mean that is subtracted, to first order; left to itself,
    # differentiation would pass over x once more to find that out. Masks are not differentiated.
    (x, share), (tangent, _) = primals, tangents
    statistics = _moments(x, share)
    centered = x - _spread(statistics.mean, x)
    return statistics, Statistics(_mean(tangent, share), 2 * _mean(centered * tangent, share))


def _mean(x: Array, share: Array) -> Array:
    """The mean over positions and, with these shares, over examples: ``[channels]``."""
    channels, positions = x.shape[-1], math.prod(x.shape[1:-1])
    # Products, and not sums, which XLA computes anew for every pixel that is normalized. One after
    # the other, as a product adds up its terms in turn, and the fewer there are the less it rounds.
    product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    of_positions = product(share, x.reshape(x.shape[0], positions * channels))
    of_positions = of_positions.reshape(positions, channels)
    return product(jnp.full(positions, 1 / max(positions, 1), x.dtype), of_positions)


def _spread(vector: Array, x: Array) -> Array:
    """A vector ``[channels]`` in the shape of ``x``."""
    return jax.lax.broadcast_in_dim(vector, x.shape, (x.ndim - 1,))
