"""Features of single parameters, for learned optimizers: momenta and second moments."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.inner.leaves import computed_in
from jaxmeta.inner.per_parameter import Features
from jaxmeta.types import Array, PyTree


def momenta(decays: Sequence[float] = (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)) -> Features:
    r"""The gradient, the parameter, and running averages of the gradient.

    .. math:: m \leftarrow \beta m + (1 - \beta) g

    Args:
      decays: :math:`\beta` of each average.

    Returns:
      Features for :func:`jaxmeta.inner.per_parameter`.

    Raises:
      ValueError: a decay is outside [0, 1).

    References:
      Metz et al., 2019, appendix D.

    >>> momenta().size
    8
    """
    rates = _decays(decays)

    def init(leaf: Array) -> Array:
        return jnp.zeros((*leaf.shape, len(rates)), computed_in(leaf))

    def read(hyper: PyTree, memory: Array, leaf: Array, gradient: Array) -> tuple[Array, Array]:
        leaf, gradient = leaf.astype(memory.dtype), gradient.astype(memory.dtype)
        memory = averaged(memory, gradient[..., None], jnp.asarray(rates, memory.dtype))
        return jnp.concatenate([jnp.stack([gradient, leaf], axis=-1), memory], axis=-1), memory

    return Features(2 + len(rates), (), init, read)


def factored_moments(
    momentum: Sequence[float] = (0.9, 0.99, 0.999),
    second: Sequence[float] = (0.999,),
    factored: Sequence[float] = (0.9, 0.99, 0.999),
) -> Features:
    r"""Momenta, second moments, and Adafactor's second moments of rows and columns.

    A second moment V of an array ``[..., n, m]`` is kept as its means over its two longest axes,
    :math:`V \approx r c^\top / \bar r`. Read are, for each decay, the averages themselves, their
    inverse roots, and gradients and momenta that are divided by the roots; of arrays with fewer
    than two axes, V is kept whole. The decays are learned, through :math:`\log(1 - \beta) / 10`.

    Args:
      momentum: initial decays of the averages of the gradient.
      second: initial decays of the averages of its square.
      factored: initial decays of the averages over rows and columns; as many as of ``momentum``.

    Returns:
      Features for :func:`jaxmeta.inner.per_parameter`.

    Raises:
      ValueError: a decay is outside [0, 1), ``second`` has more than one decay, or ``factored`` and
        ``momentum`` do not have as many.

    References:
      Metz et al., 2022, appendix A; Shazeer and Stern, 2018, Adafactor, algorithm 4.

    >>> factored_moments().size
    28
    """
    if len(second) != 1 or len(momentum) != len(factored):
        raise ValueError(
            f"There are {len(momentum)} decays of momenta, {len(second)} of second moments and "
            f"{len(factored)} of factored ones: give one of second moments, and as many of the "
            "others."
        )
    starts = {
        name: np.asarray(_decays(values), np.float32)
        for name, values in (("momentum", momentum), ("second", second), ("factored", factored))
    }
    size = 2 + 2 * len(momentum) + 2 * len(second) + 6 * len(factored)

    def learned(hyper: PyTree, name: str) -> Array:
        moved = 1 - (1 - starts[name]) * jnp.exp(10 * hyper[name])
        return jnp.clip(moved, 0, 1)

    def init(leaf: Array) -> PyTree:
        def zeros(shape: Sequence[int], decays: Sequence[float]) -> Array:
            return jnp.zeros((*shape, len(decays)), computed_in(leaf))

        axes = longest_axes(leaf.shape)
        rows, columns = (
            ((*leaf.shape,), (0,))
            if axes is None
            else (np.delete(leaf.shape, axis).tolist() for axis in axes)
        )
        return {
            "momentum": zeros(leaf.shape, momentum),
            "second": zeros(leaf.shape, second),
            "rows": zeros(rows, factored),
            "columns": zeros(columns, factored),
        }

    def read(hyper: PyTree, memory: PyTree, leaf: Array, gradient: Array) -> tuple[Array, PyTree]:
        dtype = memory["momentum"].dtype
        leaf, g = leaf.astype(dtype), gradient.astype(dtype)[..., None]
        decay = learned(hyper, "factored")
        m = averaged(memory["momentum"], g, learned(hyper, "momentum"))
        v = averaged(memory["second"], g**2, learned(hyper, "second"))
        axes, squares = longest_axes(leaf.shape), g**2 + 1e-30
        if axes is None:
            rows, columns = averaged(memory["rows"], squares, decay), memory["columns"]
            row, column, factor = rows, rows, _root(rows)
        else:
            last, first = axes
            rows = averaged(memory["rows"], jnp.mean(squares, axis=last), decay)
            columns = averaged(memory["columns"], jnp.mean(squares, axis=first), decay)
            row, column = jnp.expand_dims(rows, last), jnp.expand_dims(columns, first)
            mean = jnp.mean(row, axis=first, keepdims=True)
            factor = _root(row / (mean + 1e-9)) * _root(column)
        spread = (*leaf.shape, decay.size)
        root = jax.lax.rsqrt(v + 1e-6)
        features = [
            *(g, leaf[..., None], m, v, m * root, root, g * factor),
            *(jnp.broadcast_to(each, spread) for each in (row, column)),
            *(jnp.broadcast_to(jax.lax.rsqrt(each + 1e-8), spread) for each in (row, column)),
            m * factor,
        ]
        kept = {"momentum": m, "second": v, "rows": rows, "columns": columns}
        return jnp.concatenate(features, axis=-1), kept

    hyper = {name: np.zeros_like(values) for name, values in starts.items()}
    return Features(size, hyper, init, read)


def averaged(before: Array, values: Array, decays: Array) -> Array:
    """Running averages ``[..., decays]`` of values ``[..., 1]``."""
    decays = decays.reshape((1,) * (before.ndim - 1) + decays.shape).astype(before.dtype)
    return decays * before + (1 - decays) * values


def longest_axes(shape: Sequence[int]) -> tuple[int, int] | None:
    """The longest axis and the next, the later first if they are as long; ``None`` without two.

    >>> longest_axes((3, 3, 8, 16)), longest_axes((5,))
    ((3, 2), None)
    """
    if len(shape) < 2:
        return None
    *_, second, first = np.argsort(shape, kind="stable").tolist()
    return first, second


def _root(squares: Array) -> Array:
    return jax.lax.rsqrt(jnp.maximum(squares, 1e-9))


def _decays(values: Sequence[float]) -> tuple[float, ...]:
    for value in values:
        if not 0 <= value < 1:
            raise ValueError(f"A decay is {value}: give numbers from 0 up to below 1.")
    return tuple(values)
