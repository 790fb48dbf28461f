"""Gates of whole layers, by a small network that reads the means of all: ALFA."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count, check_positive
from jaxmeta.inner.gated import Chosen, Gates
from jaxmeta.inner.leaves import computed_in
from jaxmeta.types import Array, Key, PyTree


class Hyper(NamedTuple):
    """What layer gates learn.

    Attributes:
      network: two dense layers, the first by rows.
      rate: ``[steps, leaves]``.
      decay: ``[steps, leaves]``.
    """

    network: PyTree
    rate: Array
    decay: Array


def layer_gates(steps: int, rate: float = 0.01, decay: float = 5e-6) -> Gates:
    r"""A network that reads all leaves' mean gradients and weights, and scales rates and decays.

    .. math:: (A_t, B_t) = W_2\, \mathrm{relu}(W_1 [\bar g_t, \bar\theta_t] + b_1) + b_2, \qquad
              r_{l,t} = a_{l,t} A_{l,t}, \qquad d_{l,t} = b_{l,t} B_{l,t}

    for each leaf l, with a and b learned for each leaf and step. All factors A and B start at 1, so
    it starts as gradient descent with weight decay. The weights are for one network: they do not
    apply to one with other leaves.

    Args:
      steps: rows of a and b; later steps use the last.
      rate: initial value of a.
      decay: initial value of b, the share of a leaf that is forgotten in a step.

    Returns:
      Gates for :func:`jaxmeta.inner.gated`.

    Raises:
      ValueError: ``steps`` or ``rate`` is not positive, or ``decay`` is outside [0, 1).

    References:
      Baik et al., 2020, Meta-Learning with Adaptive Hyperparameters (ALFA), equations 2 and 3, with
      the initial values of their code, whose factors however start at random around 0.

    >>> from jaxmeta.inner import gated, unroll
    >>> loop = unroll(gated(layer_gates(steps=5)), steps=5)
    """
    check_count("steps", steps, least=1)
    check_positive("rate", rate)
    if not 0 <= decay < 1:
        raise ValueError(f"decay is {decay}: give a share from 0 up to below 1.")

    def hyper(key: Key, fast: PyTree) -> Hyper:
        dtype = computed_in(fast)
        leaves = len(jax.tree.leaves(fast))
        width = 2 * leaves
        rows = jnp.ones((steps, leaves), dtype)
        kernel = jax.nn.initializers.he_normal()(key, (width, width), dtype)
        network = {
            "hidden": {"kernel": kernel, "bias": jnp.zeros(width, dtype)},
            "output": {"kernel": jnp.zeros((width, width), dtype), "bias": jnp.ones(width, dtype)},
        }
        return Hyper(network, rate * rows, decay * rows)

    def init(fast: PyTree) -> Array:
        return jnp.zeros((), jnp.int32)

    def choose(
        weights: Hyper, step: Array, fast: PyTree, gradient: PyTree, value: Array
    ) -> tuple[Chosen, Array]:
        leaves, structure = jax.tree.flatten(fast)
        dtype = weights.rate.dtype
        means = jnp.stack(
            [
                jnp.sum(leaf.astype(dtype)) / max(leaf.size, 1)
                for leaf in (*jax.tree.leaves(gradient), *leaves)
            ]
        )
        hidden, output = weights.network["hidden"], weights.network["output"]
        means = jax.nn.relu(means @ hidden["kernel"] + hidden["bias"])
        factors = jnp.split(means @ output["kernel"] + output["bias"], 2)
        rows = (jnp.take(each, step, axis=0, mode="clip") for each in (weights.rate, weights.decay))
        chosen = [
            jax.tree.unflatten(structure, [*(factor * row)])
            for factor, row in zip(factors, rows, strict=True)
        ]
        return Chosen(*chosen), step + 1

    return Gates(hyper, init, choose)
