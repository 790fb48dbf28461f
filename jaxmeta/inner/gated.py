"""Gradient steps whose sizes, and how much is forgotten, a network chooses in every step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from jaxmeta.inner.loop import LearnedOptimizer
from jaxmeta.types import Array, Key, PyTree


class Chosen(NamedTuple):
    """What gates choose for one step.

    Attributes:
      rate: step sizes, a pytree like the leaves, of scalars or arrays of their shapes.
      decay: the shares of the leaves that are forgotten, likewise.
    """

    rate: PyTree
    decay: PyTree


class Gates(NamedTuple):
    """Networks that choose step sizes and decays, for :func:`gated`.

    Attributes:
      hyper: ``(key, fast) -> weights``, the initial weights.
      init: ``(fast) -> memory`` before the first step.
      choose: ``(weights, memory, fast, gradient, value) -> (Chosen, memory)``, where ``value`` is
        the loss.
    """

    hyper: Callable[[Key, PyTree], PyTree]
    init: Callable[[PyTree], PyTree]
    choose: Callable[[PyTree, PyTree, PyTree, PyTree, Array], tuple[Chosen, PyTree]]


def gated(gates: Gates) -> LearnedOptimizer:
    r"""Gradient steps with rates and decays that are chosen anew in each step.

    .. math:: \theta_{t+1} = (1 - d_t) \odot \theta_t - r_t \odot g_t, \qquad
              (r_t, d_t, m_{t+1}) = \mathrm{gates}(m_t, \theta_t, g_t, \ell_t)

    This is the cell of an LSTM, whose memory is the parameters themselves.

    Args:
      gates: what chooses: :func:`coordinate_gates`, :func:`layer_gates` or your own.

    Returns:
      A learned optimizer for :func:`unroll`. Of trained weights, ``optimizer(weights)`` is an optax
      transformation whose ``update`` is given the loss, as ``value``.

    Raises:
      ValueError: in an update, the parameters or the loss are missing.

    References:
      Ravi and Larochelle, 2017, Optimization as a Model for Few-Shot Learning, equation 2; Baik et
      al., 2020, Meta-Learning with Adaptive Hyperparameters, equation 2.

    >>> import jax.numpy as jnp
    >>> from jaxmeta.inner import layer_gates, unroll
    >>> loop = unroll(gated(layer_gates(steps=5, rate=0.5, decay=0.25)), steps=1)
    >>> loss = lambda theta, key: jnp.sum(theta**2) / 2
    >>> theta = jnp.array([1.0])
    >>> loop.run(loss, theta, loop.init(jax.random.key(0), theta), jax.random.key(0))[0].tolist()
    [0.25]
    """

    def optimizer(weights: PyTree) -> optax.GradientTransformationExtraArgs:
        def update(
            gradient: PyTree,
            memory: PyTree,
            params: PyTree = None,
            *,
            value: Array | None = None,
            **_: Any,
        ) -> tuple[PyTree, PyTree]:
            if params is None or value is None:
                raise ValueError(
                    "Gates read the parameters and the loss: call update(gradient, state, params, "
                    "value=loss)."
                )
            chosen, memory = gates.choose(weights, memory, params, gradient, value)

            def move(leaf: Array, g: Array, rate: Array, decay: Array) -> Array:
                return -decay.astype(leaf.dtype) * leaf - rate.astype(g.dtype) * g

            return jax.tree.map(move, params, gradient, *chosen), memory

        return optax.GradientTransformationExtraArgs(gates.init, update)

    return LearnedOptimizer(gates.hyper, optimizer)
