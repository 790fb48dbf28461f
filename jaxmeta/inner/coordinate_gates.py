"""Gates of single coordinates, by an LSTM: the meta-learner of Ravi and Larochelle."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count, check_positive
from jaxmeta.inner.gated import Chosen, Gates
from jaxmeta.inner.leaves import computed_in, raveled
from jaxmeta.inner.recurrent import log_and_sign, lstm_step
from jaxmeta.types import Array, Key, PyTree


class Memory(NamedTuple):
    """What is remembered of each coordinate; the last two are before their sigmoid.

    Attributes:
      hidden: ``[coordinates, n]``.
      cell: ``[coordinates, n]``.
      rate: ``[coordinates]``.
      decay: ``[coordinates]``.
    """

    hidden: Array
    cell: Array
    rate: Array
    decay: Array


def coordinate_gates(hidden: int = 20, *, log_range: float = 10.0) -> Gates:
    r"""An LSTM that reads loss and gradient, and chooses the rate and the decay of one coordinate.

    .. math:: u_t = \mathrm{LSTM}\big(\mathrm{pre}(\ell_t), \mathrm{pre}(g_t)\big), \qquad
              r_t = \sigma\big(w_r^\top [u_t, \theta_t, \sigma^{-1}(r_{t-1})] + b_r\big), \qquad
              d_t = \sigma\big(w_d^\top [u_t, \theta_t, \sigma^{-1}(d_{t-1})] + b_d\big)

    All coordinates share the weights, and each has a memory of its own. Rates and decays start near
    0.011: little is moved, and little forgotten.

    Args:
      hidden: size of the LSTM.
      log_range: p, of :func:`jaxmeta.inner.recurrent.log_and_sign`.

    Returns:
      Gates for :func:`jaxmeta.inner.gated`.

    Raises:
      ValueError: ``hidden`` or ``log_range`` is not positive.

    References:
      Ravi and Larochelle, 2017, Optimization as a Model for Few-Shot Learning, section 3.1. As in
      their code, gates read the gates before them without the sigmoid, and all weights start
      uniform in (-0.01, 0.01); the LSTM's own forget gate has 1 added, as in
      :func:`jaxmeta.inner.recurrent.lstm_step`. They treat the inner gradient and loss as
      constants, as ``unroll(gated(coordinate_gates()), 12, first_order=True)`` does.

    >>> from jaxmeta.inner import gated, unroll
    >>> loop = unroll(gated(coordinate_gates()), steps=12, first_order=True)
    """
    check_count("hidden", hidden, least=1)
    check_positive("log_range", log_range)

    def hyper(key: Key, fast: PyTree) -> PyTree:
        dtype = computed_in(fast)
        keys = jax.random.split(key, 6)

        def uniform(i: int, shape: tuple[int, ...], low: float, high: float) -> Array:
            return jax.random.uniform(keys[i], shape, dtype, low, high)

        small = -0.01, 0.01
        return {
            "lstm": {
                "kernel": uniform(0, (4 + hidden, 4 * hidden), *small),
                "bias": uniform(1, (4 * hidden,), *small),
            },
            "rate": {"kernel": uniform(2, (hidden + 2,), *small), "bias": uniform(3, (), -5, -4)},
            "decay": {"kernel": uniform(4, (hidden + 2,), *small), "bias": uniform(5, (), -5, -4)},
        }

    def init(fast: PyTree) -> Memory:
        flat, _ = raveled(fast)
        return Memory(
            *[jnp.zeros((flat.size, hidden), flat.dtype)] * 2, *[jnp.zeros_like(flat)] * 2
        )

    def choose(
        weights: PyTree, memory: Memory, fast: PyTree, gradient: PyTree, value: Array
    ) -> tuple[Chosen, Memory]:
        (theta, back), (g, _) = raveled(fast), raveled(gradient)
        loss = log_and_sign(jnp.asarray(value, g.dtype), log_range)
        loss = jnp.broadcast_to(loss, (g.size, 2))
        read = jnp.concatenate([loss, log_and_sign(g, log_range)], axis=1)
        u, cell = lstm_step(weights["lstm"], read, memory.hidden, memory.cell)

        def gate(name: str, before: Array) -> Array:
            inputs = jnp.concatenate([u, theta[:, None], before[:, None]], axis=1)
            return inputs @ weights[name]["kernel"] + weights[name]["bias"]

        rate, decay = gate("rate", memory.rate), gate("decay", memory.decay)
        chosen = Chosen(*(back(jax.nn.sigmoid(each)) for each in (rate, decay)))
        return chosen, Memory(u, cell, rate, decay)

    return Gates(hyper, init, choose)
