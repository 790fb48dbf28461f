"""Embedding in full context: LSTMs over the support set, and over what a query reads of it.

Vinyals et al., 2016, Matching Networks for One Shot Learning, equations 3 to 6 and appendix A.
"""

import jax
import jax.numpy as jnp

from jaxmeta.learners.frames.support import MASK_VALUE
from jaxmeta.types import Array, Key, PyTree


def init_context(key: Key, size: int) -> PyTree:
    """The parameters of the three LSTMs, for features of a size."""
    names = ("forward", "backward", "read")
    recurrent = (size, size, 2 * size)
    keys = jax.random.split(key, len(names))
    return {name: _init_lstm(k, size, r) for name, k, r in zip(names, keys, recurrent, strict=True)}


def in_context(params: PyTree, embedded: Array, shown: Array) -> Array:
    """Support examples ``[n, d]``, each with what a bidirectional LSTM makes of those around it."""
    there = over_set(params["forward"], embedded, shown, reverse=False)
    back = over_set(params["backward"], embedded, shown, reverse=True)
    return there + back + embedded


def _init_lstm(key: Key, size: int, recurrent: int) -> PyTree:
    spread = jax.nn.initializers.glorot_uniform()
    input_key, recurrent_key = jax.random.split(key)
    return {
        "input": spread(input_key, (size, 4 * size), jnp.float32),
        "recurrent": spread(recurrent_key, (recurrent, 4 * size), jnp.float32),
        "bias": jnp.zeros(4 * size, jnp.float32),
    }


def _lstm(weights: PyTree, x: Array, hidden: Array, cell: Array) -> tuple[Array, Array]:
    """One step: the new output and cell, from x, the last output (and what is read) and cell."""
    gates = x @ weights["input"] + hidden @ weights["recurrent"]
    to_input, to_forget, new, to_output = jnp.split(
        gates + jnp.expand_dims(weights["bias"], range(x.ndim - 1)), 4, axis=-1
    )
    # A bias of 1 keeps the cell's content until learned otherwise (Jozefowicz et al., 2015).
    kept = jax.nn.sigmoid(to_forget + 1) * cell
    cell = kept + jax.nn.sigmoid(to_input) * jnp.tanh(new)
    return jax.nn.sigmoid(to_output) * jnp.tanh(cell), cell


def over_set(weights: PyTree, embedded: Array, shown: Array, reverse: bool) -> Array:
    """An LSTM's outputs for the examples ``[n, d]``, skipping those that are not shown."""

    def step(carry: tuple[Array, Array], example: tuple[Array, Array]) -> tuple[PyTree, Array]:
        x, there = example
        moved = _lstm(weights, x, *carry)
        carry = jax.tree.map(lambda new, old: jnp.where(there > 0, new, old), moved, carry)
        return carry, carry[0]

    nil = jnp.zeros_like(embedded[0])
    _, outputs = jax.lax.scan(step, (nil, nil), (embedded, shown), reverse=reverse)
    return outputs


def read_support(weights: PyTree, x: Array, support: Array, shown: Array, reads: int) -> Array:
    """Queries ``[m, d]`` after reading the support set ``reads`` times."""

    def step(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        hidden, cell = carry
        scores = jnp.where(shown[None] > 0, hidden @ support.T, MASK_VALUE)
        read = jax.nn.softmax(scores, axis=-1) @ support
        output, cell = _lstm(weights, x, jnp.concatenate([hidden, read], axis=-1), cell)
        return (output + x, cell), None

    (hidden, _), _ = jax.lax.scan(step, (jnp.zeros_like(x), jnp.zeros_like(x)), length=reads)
    return hidden
