"""A multi-layer perceptron that changes its inputs, and starts as the identity."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count, check_sizes
from jaxmeta.nn.adapters import from_functions
from jaxmeta.nn.models import mlp
from jaxmeta.types import Array, Key, Model, PyTree


def residual_mlp(
    hidden: Sequence[int] = (256,), *, codes: int = 0, nonnegative: bool = False
) -> Model:
    r"""Adds to each input what a multi-layer perceptron with ReLU makes of it; no state.

    .. math:: g(x, z) = x + W_L\, \sigma(W_{L-1} \cdots \sigma(W_1 [x; z]))

    The last layer starts at zero, so at first x is returned as it is. With codes z, which are the
    last of the inputs, it is a generator for :func:`jaxmeta.learners.hallucinated`; without, a
    network for features that are already good.

    Args:
      hidden: sizes of the hidden layers.
      codes: size of z.
      nonnegative: apply a ReLU to the outputs, as befits features that end with one.

    Returns:
      A model from ``[n, d + codes]`` to ``[n, d]``; its parameters are those of the layers
      ``"layer0"``, ..., ``"head"``.

    Raises:
      ValueError: a layer's size is not a positive integer or, from ``init``, the inputs are not
        ``[n, d + codes]``.

    References:
      Wang, Girshick, Hebert and Hariharan, 2018, Low-Shot Learning from Imaginary Data, section 4
      (whose generator starts as the identity by its weights, and has no residual connection).

    >>> model, inputs = residual_mlp(hidden=[8], codes=2), jnp.arange(24.0).reshape(4, 6)
    >>> params, state = model.init(jax.random.key(0), inputs)
    >>> model.apply(params, state, inputs)[0][0].tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    check_sizes(hidden)
    check_count("codes", codes)

    def change(x: Array) -> Model:
        return mlp(x.shape[1] - codes, hidden)

    def init(key: Key, x: Array) -> PyTree:
        if x.ndim != 2 or x.shape[1] <= codes:
            raise ValueError(
                f"A residual_mlp takes features [n, d] followed by {codes} codes, and got shape "
                f"{x.shape}: give it an encoder without a head that flattens its maps."
            )
        params, _ = change(x).init(key, x)
        return {**params, "head": jax.tree.map(jnp.zeros_like, params["head"])}

    def apply(params: PyTree, x: Array) -> Array:
        outputs = x[:, : x.shape[1] - codes] + change(x).apply(params, {}, x)[0]
        return jax.nn.relu(outputs) if nonnegative else outputs

    return from_functions(init, apply)
