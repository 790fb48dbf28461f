"""Layers as pure functions of arrays: the building blocks of this library's models."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.nn.convolution import conv2d
from jaxmeta.types import Array, Key, PyTree

_glorot = jax.nn.initializers.glorot_normal()
_he = jax.nn.initializers.he_normal()


def init_dense(key: Key, inputs: int, outputs: int) -> dict[str, Array]:
    """The parameters ``{"kernel", "bias"}`` of a linear layer.

    >>> init_dense(jax.random.key(0), inputs=3, outputs=2)["kernel"].shape
    (3, 2)
    """
    return {
        "kernel": _glorot(key, (inputs, outputs), jnp.float32),
        "bias": jnp.zeros(outputs, jnp.float32),
    }


def dense(layer: PyTree, x: Array) -> Array:
    """A linear layer, ``[n, ..., inputs]`` to ``[n, ..., outputs]``: ``x @ kernel + bias``.

    Args:
      layer: ``{"kernel", "bias"}``, the latter only if it has one.
      x: ``[n, ..., inputs]``.

    Raises:
      ValueError: the examples have a different number of features than the layer takes.

    >>> dense({"kernel": jnp.ones((2, 1))}, jnp.array([[1.0, 2.0]])).tolist()
    [[3.0]]
    """
    kernel = layer["kernel"]
    if x.shape[-1] != kernel.shape[0]:
        raise ValueError(
            f"Examples have {x.shape[-1]} features but the layer takes {kernel.shape[0]}: give "
            "examples like those that the model was made for."
        )
    dtype = jnp.result_type(x, kernel)
    # A matrix product is a convolution of single pixels, whose gradients are faster.
    pixels = x.astype(dtype).reshape(x.shape[0], math.prod(x.shape[1:-1]), 1, x.shape[-1])
    y = conv2d(pixels, kernel.astype(dtype)[None, None]).reshape(*x.shape[:-1], kernel.shape[1])
    return y + _spread(layer["bias"], y) if "bias" in layer else y


def max_pool(x: Array) -> Array:
    """Maximum over 2x2 windows of ``[n, height, width, c]``, dropping an odd last row or column.

    If several values of a window are the largest, the derivative is the mean of theirs.

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
    # Which value is larger does not change with an infinitesimal step, so all but the tangent is
    # constant here, and a second derivative adds no pass over the windows.
    (windows,), (tangent,) = primals, tangents
    fixed = jax.lax.stop_gradient(windows)
    equal = (fixed[..., :1, :] == fixed[..., 1:, :]).astype(tangent.dtype)
    columns = _shares(fixed, jnp.ones_like(equal), axis=4)
    rows = _shares(jnp.max(fixed, axis=4, keepdims=True), 1 + equal, axis=2)
    return _largest(windows), jnp.sum(columns * rows * tangent, axis=(2, 4))


def _shares(pairs: Array, counts: Array, axis: int) -> Array:
    """1 for the larger of two values along an axis, 0 for the smaller; equal ones share by counts.

    Each is compared with the other, not with their maximum: a compiler may round a value that it
    computes again differently, and then neither would be equal to the maximum.
    """
    others = jnp.flip(pairs, axis)
    shares = counts / (counts + jnp.flip(counts, axis))
    return jnp.where(pairs == others, shares, (pairs > others).astype(shares.dtype))


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
      scale: as for :func:`normalize`.
      offset: as for :func:`normalize`.
      statistics: used if ``batch_statistics`` is false.
      mask: as for :func:`moments`.
      batch_statistics: use the statistics of ``x``, not the given ones.
      epsilon: as for :func:`normalize`.

    Returns:
      The normalized array and the statistics used.

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


def init_convolution(
    key: Key, window: int, channels: int, filters: int
) -> tuple[dict[str, Array], Statistics]:
    """The parameters ``{"kernel", "scale", "offset"}`` and the statistics of a normalized layer.

    It has no bias: the normalization would subtract it again.

    >>> params, statistics = init_convolution(jax.random.key(0), window=3, channels=1, filters=8)
    >>> params["kernel"].shape, statistics.mean.shape
    ((3, 3, 1, 8), (8,))
    """
    params = {
        "kernel": _he(key, (window, window, channels, filters), jnp.float32),
        "scale": jnp.ones(filters, jnp.float32),
        "offset": jnp.zeros(filters, jnp.float32),
    }
    return params, Statistics(jnp.zeros(filters, jnp.float32), jnp.ones(filters, jnp.float32))


def layer_norm(x: Array, scale: Array, offset: Array, epsilon: float = 1e-6) -> Array:
    r"""Normalizes each vector by its own mean and variance.

    .. math:: \gamma (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta

    Args:
      x: ``[..., channels]``.
      scale: gamma, ``[channels]``.
      offset: beta, ``[channels]``.
      epsilon: keeps a constant vector finite.

    References:
      Ba et al., 2016, Layer Normalization, section 3.

    >>> layer_norm(jnp.array([[1.0, 3.0]]), jnp.ones(2), jnp.ones(2)).round(3).tolist()
    [[0.0, 2.0]]
    """
    wide = x.astype(wide_type(x.dtype))
    centered = wide - jnp.mean(wide, axis=-1, keepdims=True)
    spread = jax.lax.rsqrt(jnp.mean(centered**2, axis=-1, keepdims=True) + epsilon)
    return (centered * spread).astype(x.dtype) * _spread(scale, x) + _spread(offset, x)


def moments(x: Array, mask: Array | None = None) -> Statistics:
    """Mean and (biased) variance of each channel over examples and positions.

    Args:
      x: ``[n, ..., channels]``.
      mask: ``[n]``; examples with mask 0 are ignored. ``None`` is all ones.

    >>> mean, variance = moments(jnp.array([[1.0], [3.0], [9.0]]), jnp.array([1.0, 1.0, 0.0]))
    >>> mean.item(), variance.item()
    (2.0, 1.0)
    """
    wide = wide_type(x.dtype)
    share = jnp.ones(x.shape[0], wide) if mask is None else mask.astype(wide)
    return _moments(x.astype(wide), share / jnp.maximum(jnp.sum(share), 1))


def widened(x: Array) -> Array:
    """The array in a type of 32 bits or more."""
    return x.astype(wide_type(x.dtype))


def wide_type(dtype: jnp.dtype) -> jnp.dtype:
    """The type for sums of many terms: never fewer than 32 bits."""
    return dtype if jnp.finfo(dtype).bits >= 32 else jnp.dtype("float32")


@jax.custom_jvp
def _moments(x: Array, share: Array) -> Statistics:
    mean = _mean(x, share)
    return Statistics(mean, _mean((x - _spread(mean, x)) ** 2, share))


@_moments.defjvp
def _moments_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Statistics, Statistics]:
    # To first order, the variance does not change with the subtracted mean; without this rule,
    # differentiation would pass over x once more to find that out. Masks are not differentiated.
    (x, share), (tangent, _) = primals, tangents
    statistics = _moments(x, share)
    centered = x - _spread(statistics.mean, x)
    return statistics, Statistics(_mean(tangent, share), 2 * _mean(centered * tangent, share))


def _mean(x: Array, share: Array) -> Array:
    """The mean over positions and, with these shares, over examples: ``[channels]``."""
    channels, positions = x.shape[-1], math.prod(x.shape[1:-1])
    # Products, not sums, which XLA would compute anew for every normalized pixel. One after the
    # other, as a product adds up its terms in turn, and fewer terms round less.
    product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    of_positions = product(share, x.reshape(x.shape[0], positions * channels))
    of_positions = of_positions.reshape(positions, channels)
    return product(jnp.full(positions, 1 / max(positions, 1), x.dtype), of_positions)


def _spread(vector: Array, x: Array) -> Array:
    """A vector ``[channels]`` broadcast to the shape of ``x``."""
    return jax.lax.broadcast_in_dim(vector, x.shape, (x.ndim - 1,))
