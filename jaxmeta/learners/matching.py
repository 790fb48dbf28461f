"""Matching networks: nearest neighbors by attention, optionally embedded in full context."""

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.learners.frames.comparison import Comparison, comparison_learner
from jaxmeta.learners.frames.support import MASK_VALUE, cosine_similarities
from jaxmeta.types import Array, Key, Learner, Model, PyTree


def matching(
    model: Model,
    ways: int,
    *,
    full_context: bool = False,
    reads: int = 5,
    normalization: str = "transductive",
) -> Learner:
    r"""Matching networks: the labels of the support set, weighted by attention.

    .. math:: p(y \mid x) = \sum_i \frac{e^{\cos(f(x),\, g(x_i))}}{\sum_j e^{\cos(f(x),\, g(x_j))}}
              \, [y_i = y]

    The logits are the logarithms, up to a constant. (Cosines of non-negative features differ by at
    most 1, so no prediction is certain; what is learned is their order.) Without full context, f
    and g are both the embedding. With it, g adds to each embedded support example the output of a
    bidirectional LSTM over the support set, and f is an LSTM that reads the support set by
    attention ``reads`` times:
    :math:`h_k = \mathrm{LSTM}(f'(x), [h_{k-1}, r_{k-1}]) + f'(x)` with
    :math:`r_{k-1} = \sum_i \mathrm{softmax}_i(h_{k-1}^\top g(x_i))\, g(x_i)`. The order of the
    support set then matters.

    Args:
      model: an embedding f', ``[n, ...]`` to ``[n, d]``.
      ways: largest number of classes.
      full_context: embed with full context.
      reads: K, how often f reads the support set; used only with full context.
      normalization: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page.

    Returns:
      A learner whose parameters work for any number of ways.

    Raises:
      ValueError: ``reads`` is not positive, the normalization is unknown, or (when adapting) the
        support set does not fit.

    References:
      Vinyals et al., 2016, Matching Networks for One Shot Learning, equations 1 to 6, appendix A.

    >>> from jaxmeta.nn import conv4
    >>> learner = matching(conv4(), ways=5)
    >>> with_context = matching(conv4(), ways=5, full_context=True, reads=3)
    """
    check_count("reads", reads, least=1)

    def init(key: Key, embedded: Array) -> PyTree:
        if not full_context:
            return ()
        size = embedded.shape[-1]
        names = ("forward", "backward", "read")
        recurrent = (size, size, 2 * size)
        keys = jax.random.split(key, len(names))
        return {
            name: _init_lstm(k, size, r) for name, k, r in zip(names, keys, recurrent, strict=True)
        }

    def remember(head_params: PyTree, embedded: Array, member: Array) -> PyTree:
        if not full_context:
            return embedded, member
        shown = jnp.sum(member, axis=1)
        there = _over_set(head_params["forward"], embedded, shown, reverse=False)
        back = _over_set(head_params["backward"], embedded, shown, reverse=True)
        return there + back + embedded, member

    def compare(head_params: PyTree, memory: PyTree, embedded: Array) -> Array:
        support, member = memory
        if full_context:
            embedded = _read(head_params["read"], embedded, support, jnp.sum(member, axis=1), reads)
        similar = cosine_similarities(embedded, support)
        return jax.nn.logsumexp(
            jnp.where(member[None] > 0, similar[:, :, None], MASK_VALUE), axis=1
        )

    return comparison_learner(model, Comparison(init, remember, compare), ways, normalization)


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


def _over_set(weights: PyTree, embedded: Array, shown: Array, reverse: bool) -> Array:
    """An LSTM's outputs for the examples ``[n, d]``, skipping those that are not shown."""

    def step(carry: tuple[Array, Array], example: tuple[Array, Array]) -> tuple[PyTree, Array]:
        x, there = example
        moved = _lstm(weights, x, *carry)
        carry = jax.tree.map(lambda new, old: jnp.where(there > 0, new, old), moved, carry)
        return carry, carry[0]

    nil = jnp.zeros_like(embedded[0])
    _, outputs = jax.lax.scan(step, (nil, nil), (embedded, shown), reverse=reverse)
    return outputs


def _read(weights: PyTree, x: Array, support: Array, shown: Array, reads: int) -> Array:
    """Queries ``[m, d]`` after reading the support set ``reads`` times."""

    def step(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        hidden, cell = carry
        scores = jnp.where(shown[None] > 0, hidden @ support.T, MASK_VALUE)
        read = jax.nn.softmax(scores, axis=-1) @ support
        output, cell = _lstm(weights, x, jnp.concatenate([hidden, read], axis=-1), cell)
        return (output + x, cell), None

    (hidden, _), _ = jax.lax.scan(step, (jnp.zeros_like(x), jnp.zeros_like(x)), length=reads)
    return hidden
