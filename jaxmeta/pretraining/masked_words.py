"""Masked words: some words of a text are hidden and predicted from the others."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.data.words import UNKNOWN
from jaxmeta.losses import accuracy, cross_entropy
from jaxmeta.nn.layers import dense, init_dense
from jaxmeta.types import Array, Batch, Key, Model, Objective, PyTree, Report

REPLACED = (0.8, 0.1)
"""The shares of the chosen words that are hidden and that are exchanged for another word."""


def masked_words(model: Model, vocabulary: int, *, share: float = 0.15) -> Objective:
    r"""The cross-entropy of the words at some positions of each text.

    .. math:: -\operatorname*{mean}_{(i, l)\; \text{chosen}}
              \log \mathrm{softmax}\big(W^\top f(\tilde x_i)_l + b\big)_{x_{il}}

    where a share of the positions of each text is chosen. Of the words there, 80 % are hidden in
    :math:`\tilde x`, 10 % are exchanged for another chosen word of the batch, and 10 % are left
    unchanged, so the encoder cannot tell which words to trust.

    Args:
      model: the encoder, a :func:`jaxmeta.nn.text_transformer` without ``outputs``.
      vocabulary: how many words are predicted, those with the lowest numbers. Other words are never
        targets, nor are unknown ones.
      share: share of the words of a text that are chosen, at least one.

    Returns:
      An objective over batches of texts, with parameters ``{"model", "words"}``. It has no state of
      its own, and reports ``accuracy``.

    Raises:
      ValueError: the share is not between 0 and 1, there are no words to predict or, when called,
        the task is not a batch of texts or the model is not a ``text_transformer``.

    References:
      Devlin, Chang, Lee and Toutanova, 2019, BERT: Pre-training of Deep Bidirectional Transformers
      for Language Understanding, section 3.1. BERT exchanges words for random ones of the
      vocabulary.

    >>> from jaxmeta.nn import text_transformer
    >>> objective = masked_words(text_transformer(), vocabulary=10_000)
    """
    check_count("vocabulary", vocabulary, least=3)
    if not 0 < share < 1:
        raise ValueError(f"share is {share}: give a share between 0 and 1.")

    def init(key: Key, batch: Batch) -> tuple[PyTree, PyTree]:
        x = _texts_of(batch)
        model_key, head_key, mask_key = jax.random.split(key, 3)
        params, state = model.init(model_key, x)
        if not isinstance(params, dict) or not {"project", "encoder"} <= set(params):
            raise ValueError(
                "masked_words trains the blocks of a text_transformer, and the model is another: "
                "give jaxmeta.nn.text_transformer without outputs."
            )
        size = params["project"]["kernel"].shape[-1]
        own: dict[str, PyTree] = {"head": init_dense(head_key, size, vocabulary)}
        if "words" in x:
            width = x["words"].shape[-1]
            own["mask"] = 0.02 * jax.random.normal(mask_key, (width,), jnp.float32)
        return {"model": params, "words": own}, state

    def loss(params: PyTree, state: PyTree, batch: Batch, key: Key) -> tuple[Array, Report]:
        x = _texts_of(batch)
        choose_key, hide_key = jax.random.split(key)
        chosen = choose_words(choose_key, x["tokens"], share)
        chosen = chosen._replace(mask=chosen.mask * batch.mask[:, None])
        changed = hide_words(hide_key, x, chosen, params["words"].get("mask"))
        asked = {**changed, "places": chosen.places}
        found, _ = model.apply(params["model"], state, asked, batch.mask)
        logits = dense(params["words"]["head"], found).reshape(-1, vocabulary)
        targets = jnp.take_along_axis(x["tokens"], chosen.places, axis=1)
        known = (targets > UNKNOWN) & (targets < vocabulary)
        weights = jnp.where(known, chosen.mask, 0).reshape(-1)
        targets = jnp.where(known, targets, 0).reshape(-1)
        metrics = {"accuracy": accuracy(logits, targets, weights)}
        return cross_entropy(logits, targets, weights), Report(metrics=metrics)

    return Objective(init, loss)


class Chosen(NamedTuple):
    """Positions of words.

    Attributes:
      places: int32 ``[n, k]``, distinct positions in each text.
      mask: ``[n, k]``, 1 for a chosen position and 0 for padding.
    """

    places: Array
    mask: Array


def choose_words(key: Key, tokens: Array, share: float) -> Chosen:
    """Chooses a share of the words of each text at random, at least one.

    Args:
      key: randomness.
      tokens: int32 ``[n, length]``, where 0 is padding.
      share: share of the words of each text; their number is rounded.
    """
    most = max(math.ceil(share * tokens.shape[1]), 1)
    scores = jnp.where(tokens > 0, jax.random.uniform(key, tokens.shape), -1.0)
    places = jax.lax.top_k(scores, most)[1]
    lengths = jnp.sum(tokens > 0, axis=1)
    counts = jnp.clip(jnp.round(share * lengths.astype(jnp.float32)), 1, most)
    counts = jnp.minimum(counts, lengths.astype(jnp.float32))
    mask = jnp.arange(most, dtype=jnp.float32)[None] < counts[:, None]
    return Chosen(places, mask.astype(jnp.float32))


def hide_words(key: Key, x: PyTree, chosen: Chosen, vector: Array | None) -> PyTree:
    """Texts in which most of the chosen words are hidden or exchanged.

    Args:
      key: randomness.
      x: texts, with ``"tokens"`` and possibly ``"words"``.
      chosen: the chosen words.
      vector: ``[d]``, which replaces the vector of a hidden word; ``None`` if texts have no
        vectors.
    """
    kind_key, order_key = jax.random.split(key)
    shape = chosen.places.shape
    kind = jax.random.uniform(kind_key, shape)
    hidden = (kind < REPLACED[0]) & (chosen.mask > 0)
    exchanged = (kind >= REPLACED[0]) & (kind < sum(REPLACED)) & (chosen.mask > 0)
    # Other words come from a random order of all chosen positions; padding replaces no word.
    order = jax.random.permutation(order_key, shape[0] * shape[1])
    rows = jnp.arange(shape[0])[:, None]

    def changed(values: Array, instead: Array) -> Array:
        old = values[rows, chosen.places]
        spread = (...,) + (None,) * (values.ndim - 2)
        others = old.reshape(-1, *old.shape[2:])[order].reshape(old.shape)
        real = chosen.mask.reshape(-1)[order].reshape(shape) > 0
        new = jnp.where((exchanged & real)[spread], others, old)
        new = jnp.where(hidden[spread], instead, new)
        return values.at[rows, chosen.places].set(new)

    found = {**x, "tokens": changed(x["tokens"], jnp.int32(UNKNOWN))}
    if vector is not None:
        found["words"] = changed(x["words"], vector.astype(x["words"].dtype)[None, None])
    return found


def _texts_of(batch: Any) -> PyTree:
    """The texts of a batch; raises ``ValueError`` if there are none."""
    if not isinstance(batch, Batch):
        raise ValueError(
            f"masked_words is an objective of batches and the task is a {type(batch).__name__}: "
            "draw it by source.batches, in a config by sample = {'batches': 128}."
        )
    if not isinstance(batch.x, dict) or "tokens" not in batch.x:
        raise ValueError(
            f"masked_words got inputs of shape {jax.tree.map(jnp.shape, batch.x)}: give texts, "
            "dictionaries with 'tokens'."
        )
    return batch.x
