"""Masked words: which are chosen, what becomes of them, and what has a loss."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta.data import array_source, looked_up
from jaxmeta.nn import mean_of_words, text_transformer
from jaxmeta.pretraining import masked_words
from jaxmeta.pretraining.masked_words import choose_words, hide_words
from jaxmeta.train import init_train_state, outer_loop
from jaxmeta.types import Batch

KEY, V, LENGTH = jax.random.key(0), 30, 20
RANDOM = np.random.default_rng(0)
LENGTHS = RANDOM.integers(0, LENGTH + 1, 400)
TOKENS = jnp.asarray(
    RANDOM.integers(2, V, (400, LENGTH)) * (np.arange(LENGTH)[None] < LENGTHS[:, None]), jnp.int32
)
TABLE = jnp.asarray(RANDOM.normal(size=(V, 4)), jnp.float32)
X = {"tokens": TOKENS, "words": TABLE[TOKENS]}
MODEL = text_transformer(depth=1, heads=2, size=8)
OBJECTIVE = masked_words(MODEL, V)


def batch_of(x):
    n = len(x["tokens"])
    return Batch(x, jnp.zeros(n, jnp.int32), jnp.ones(n))


SMALL = batch_of(jax.tree.map(lambda leaf: leaf[:6], X))
PARAMS = OBJECTIVE.init(KEY, SMALL)[0]
LOSS = jax.jit(lambda params, batch, key=KEY: OBJECTIVE.loss(params, {}, batch, key)[0])


def test_a_share_of_the_words_of_each_text_is_chosen():
    places, mask = choose_words(KEY, TOKENS, 0.15)
    expected = np.where(LENGTHS > 0, np.maximum(np.round(0.15 * LENGTHS), 1), 0)
    np.testing.assert_array_equal(mask.sum(axis=1), expected)
    for row, real, length in zip(places, mask, LENGTHS, strict=True):
        own = np.asarray(row)[np.asarray(real) > 0]
        assert len(set(own.tolist())) == len(own)
        assert (own < length).all()


def test_most_are_hidden_and_few_exchanged():
    chosen = choose_words(KEY, TOKENS, 0.5)
    vector = jnp.full(4, 9.0)
    changed = hide_words(KEY, X, chosen, vector)
    rows = np.arange(400)[:, None]
    at = np.zeros((400, LENGTH), bool)
    at[
        np.broadcast_to(rows, chosen.places.shape)[chosen.mask > 0], chosen.places[chosen.mask > 0]
    ] = 1
    np.testing.assert_array_equal(changed["tokens"][~at], TOKENS[~at])
    np.testing.assert_array_equal(changed["words"][~at], X["words"][~at])
    new, old = np.asarray(changed["tokens"][at]), np.asarray(TOKENS[at])
    hidden = new == 1
    np.testing.assert_array_equal(changed["words"][at][hidden], np.full((hidden.sum(), 4), 9.0))
    # Vectors are those of the words that stand there now.
    np.testing.assert_array_equal(changed["words"][at][~hidden], TABLE[new[~hidden]])
    n = at.sum()
    sigma = lambda p: 5 * np.sqrt(p * (1 - p) / n)  # noqa: E731
    assert abs(hidden.mean() - 0.8) < sigma(0.8)
    # A word may be exchanged for the same one, or for padding, which is not done.
    moved = (~hidden & (new != old)).mean()
    most = np.mean(chosen.mask)
    assert abs(moved - 0.1 * most * (1 - 1 / (V - 2))) < sigma(0.1)
    bare = hide_words(KEY, {"tokens": TOKENS}, chosen, None)
    np.testing.assert_array_equal(bare["tokens"], changed["tokens"])


def test_a_head_that_knows_nothing_is_at_the_logarithm_of_the_vocabulary():
    blank = {
        **PARAMS,
        "words": {**PARAMS["words"], "head": jax.tree.map(jnp.zeros_like, PARAMS["words"]["head"])},
    }
    np.testing.assert_allclose(LOSS(blank, SMALL), np.log(V), rtol=1e-6)


def test_what_has_no_loss():
    """Padded examples, and words that are unknown or beyond the vocabulary."""
    masked = SMALL._replace(mask=jnp.array([1.0, 1, 1, 0, 0, 0]))
    others = jax.tree.map(lambda leaf: leaf.at[3:].set(leaf[:3]), masked.x)
    np.testing.assert_array_equal(LOSS(PARAMS, masked), LOSS(PARAMS, masked._replace(x=others)))
    few = masked_words(MODEL, 3)  # words 2 alone are targets
    params, _ = few.init(KEY, SMALL)
    loss = jax.jit(lambda p, batch: few.loss(p, {}, batch, KEY)[0])
    beyond = SMALL._replace(x={**SMALL.x, "tokens": jnp.where(SMALL.x["tokens"] > 0, 9, 0)})
    assert loss(params, beyond) == 0
    unknown = SMALL._replace(x={**SMALL.x, "tokens": jnp.minimum(SMALL.x["tokens"], 1)})
    assert LOSS(PARAMS, unknown) == 0
    gradient = jax.jit(jax.grad(loss))(params, beyond)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_labels_are_not_looked_at():
    other = SMALL._replace(y=jnp.arange(6))
    np.testing.assert_array_equal(LOSS(PARAMS, SMALL), LOSS(PARAMS, other))


def test_a_word_that_its_neighbors_tell_is_learned():
    """Texts of one word over and over."""
    words = RANDOM.integers(2, 8, 64)
    texts = array_source({"tokens": np.repeat(words[:, None], 8, axis=1)}, words)
    source = looked_up(texts, {"words": TABLE})
    objective, optimizer = masked_words(MODEL, 8), optax.adam(3e-2)
    update = outer_loop(objective, optimizer, source.batches(16), meta_batch=1)
    batch = source.batches(16)(source.data, KEY)
    begun = init_train_state(optimizer, *objective.init(KEY, batch))
    _, metrics = update(begun, source.data, KEY, 60)
    assert metrics["loss"][-1] < 0.3 < 1 < metrics["loss"][0]
    assert metrics["accuracy"][-1] > 0.9


def test_bad_arguments():
    with pytest.raises(ValueError, match="share is 1: give a share between 0 and 1"):
        masked_words(MODEL, V, share=1)
    with pytest.raises(ValueError, match="vocabulary is 2"):
        masked_words(MODEL, 2)
    with pytest.raises(
        ValueError, match=r"the model is another: give jaxmeta\.nn\.text_transformer"
    ):
        masked_words(mean_of_words(), V).init(KEY, SMALL)
    with pytest.raises(ValueError, match=r"the task is a tuple: draw it by source\.batches"):
        OBJECTIVE.init(KEY, (1, 2))
    with pytest.raises(ValueError, match=r"masked_words got inputs of shape \(2, 3\)"):
        OBJECTIVE.init(KEY, batch_of({"tokens": TOKENS[:2]})._replace(x=jnp.ones((2, 3))))
