"""The optimizer that is a recurrent network, the same for every coordinate."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxmeta.checks import check_count, check_positive
from jaxmeta.inner.leaves import computed_in, raveled
from jaxmeta.inner.loop import LearnedOptimizer
from jaxmeta.types import Array, Key, PyTree


def coordinatewise_lstm(
    layers: Sequence[int] = (20, 20), *, scale: float = 0.1, log_range: float | None = 10.0
) -> LearnedOptimizer:
    r"""An LSTM that reads the gradient of one coordinate and answers by how much to move it.

    .. math:: \theta_{t+1} = \theta_t + s\, w^\top o_t, \qquad
              (o_t, h_{t+1}) = \mathrm{LSTM}(\mathrm{pre}(g_t), h_t)

    All coordinates share the weights, and each has a state of its own, so what was learned on one
    network applies to any other. It does not read how large a coordinate is, or any other one.

    The output weights start at zero: before it is trained, the optimizer moves nothing.

    Args:
      layers: sizes of the LSTM's layers.
      scale: s, of the updates.
      log_range: p, of :func:`log_and_sign`, by which gradients are read; ``None`` to read them as
        they are.

    Returns:
      A learned optimizer for :func:`unroll`; of trained weights, ``optimizer(weights)`` is an optax
      transformation for any training loop.

    Raises:
      ValueError: there is no layer, a size is not a positive integer, or ``scale`` or ``log_range``
        is not positive.

    References:
      Andrychowicz et al., 2016, Learning to Learn by Gradient Descent by Gradient Descent,
      section 2.1 and appendix A, where p = 10. Their published code has p = 5 and s = 0.01 for
      networks, and reads the gradients of quadratics as they are, with s = 1.

    >>> from jaxmeta.inner import unroll
    >>> lstm = coordinatewise_lstm()
    >>> loop = unroll(lstm, steps=100, first_order=True, truncate=20)
    >>> params = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}
    >>> weights = lstm.hyper(jax.random.key(0), params)
    >>> optimizer = lstm.optimizer(weights)
    >>> updates, state = optimizer.update(params, optimizer.init(params))
    >>> updates["bias"].tolist()
    [0.0, 0.0]
    """
    if not layers:
        raise ValueError("layers is empty: give the sizes of one or more, as in (20, 20).")
    for width in layers:
        check_count("A layer's size", width, least=1)
    check_positive("scale", scale)
    if log_range is not None:
        check_positive("log_range", log_range)
    inputs = 1 if log_range is None else 2

    def hyper(key: Key, fast: PyTree) -> PyTree:
        dtype = computed_in(fast)
        weights: dict[str, Any] = {}
        read = inputs
        for i, width in enumerate(layers):
            shape = (read + width, 4 * width)
            kernel = _lecun_normal(jax.random.fold_in(key, i), shape, dtype)
            weights[f"layer{i}"] = {"kernel": kernel, "bias": jnp.zeros(4 * width, dtype)}
            read = width
        return {
            **weights,
            "output": {"kernel": jnp.zeros(read, dtype), "bias": jnp.zeros((), dtype)},
        }

    def optimizer(weights: PyTree) -> optax.GradientTransformation:
        def init(params: PyTree) -> PyTree:
            flat, _ = raveled(params)
            return [(jnp.zeros((flat.size, n), flat.dtype),) * 2 for n in layers]

        def update(gradient: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
            flat, unravel = raveled(gradient)
            x = flat[:, None] if log_range is None else log_and_sign(flat, log_range)
            kept = []
            for i, before in enumerate(state):
                x, cell = lstm_step(weights[f"layer{i}"], x, *before)
                kept.append((x, cell))
            output = weights["output"]
            moves = x @ output["kernel"] + output["bias"]
            return unravel(scale * moves), kept

        return optax.GradientTransformation(init, update)

    return LearnedOptimizer(hyper, optimizer)


def log_and_sign(gradient: Array, log_range: float) -> Array:
    r"""Reads gradients of any size by two numbers between -1 and 1, or a little above.

    .. math:: \Big(\max\big(\tfrac{1}{p} \log |g|,\, -1\big),\;
              \mathrm{clip}(e^p g,\, -1,\, 1)\Big)

    Where :math:`|g| \ge e^{-p}` these are its logarithm and its sign; below, -1 and the gradient
    magnified.

    Args:
      gradient: ``[...]``.
      log_range: p.

    Returns:
      ``[..., 2]``.

    References:
      Andrychowicz et al., 2016, appendix A, in the form of their published code, which is finite
      and has a finite derivative for every gradient.

    >>> log_and_sign(jnp.array([1.0, -jnp.e, 0.0]), 10.0).round(3).tolist()
    [[0.0, 1.0], [0.1..., -1.0], [-1.0, 0.0]]
    """
    smallest = jnp.finfo(gradient.dtype).eps
    logarithm = jnp.maximum(jnp.log(jnp.abs(gradient) + smallest) / log_range, -1.0)
    sign = jnp.clip(gradient * math.exp(log_range), -1.0, 1.0)
    return jnp.stack([logarithm, sign], axis=-1)


def lstm_step(weights: PyTree, x: Array, hidden: Array, cell: Array) -> tuple[Array, Array]:
    r"""One step of a layer of long short-term memory.

    .. math:: (i, f, o, g) = W^\top [x, h] + b, \quad
              c' = \sigma(f + 1)\, c + \sigma(i) \tanh(g), \quad h' = \sigma(o) \tanh(c')

    Args:
      weights: ``{"kernel": [d + n, 4 n], "bias": [4 n]}``.
      x: inputs, ``[rows, d]``.
      hidden: h, ``[rows, n]``.
      cell: c, ``[rows, n]``.

    Returns:
      The next h and c.

    References:
      Hochreiter and Schmidhuber, 1997; the 1 keeps a new network from forgetting (Jozefowicz et
      al., 2015).

    >>> weights = {"kernel": jnp.zeros((3, 8)), "bias": jnp.zeros(8)}
    >>> _, cell = lstm_step(weights, jnp.ones((1, 1)), jnp.zeros((1, 2)), jnp.ones((1, 2)))
    >>> cell.round(3).tolist()
    [[0.731..., 0.731...]]
    """
    gates = jnp.concatenate([x, hidden], axis=1) @ weights["kernel"] + weights["bias"][None]
    enter, keep, leave, new = jnp.split(gates, 4, axis=1)
    cell = jax.nn.sigmoid(keep + 1) * cell + jax.nn.sigmoid(enter) * jnp.tanh(new)
    return jax.nn.sigmoid(leave) * jnp.tanh(cell), cell


_lecun_normal = jax.nn.initializers.lecun_normal()
