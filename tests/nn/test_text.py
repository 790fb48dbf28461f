"""Encoders of texts: padding, places of entities, tables, and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.data import array_source, looked_up
from jaxmeta.learners import nearest_mean, prototypical
from jaxmeta.nn import mean_of_words, sentence_cnn, text_transformer

N, LENGTH, WIDTH, KEY = 4, 6, 5, jax.random.key(0)
RANDOM = np.random.default_rng(0)
ENDS = np.array([6, 3, 1, 0])
REAL = np.arange(LENGTH)[None] < ENDS[:, None]
X = {
    "tokens": jnp.asarray(RANDOM.integers(1, 20, (N, LENGTH)) * REAL, jnp.int32),
    "words": jnp.asarray(RANDOM.normal(size=(N, LENGTH, WIDTH)), jnp.float32),
    "weights": jnp.asarray(RANDOM.uniform(0.5, 2, (N, LENGTH)), jnp.float32),
    "head": jnp.array([1, 0, 0, 0]),
    "tail": jnp.array([4, 2, 0, 0]),
}
MODELS = {
    "cnn": sentence_cnn(filters=7, positions=2),
    "cnn with a table": sentence_cnn(filters=7, positions=2, vocabulary=20),
    "mean": mean_of_words(),
    "mean of a table": mean_of_words(vocabulary=20),
    "transformer": text_transformer(depth=1, heads=2, size=8),
}


def with_parameters(model, x=X):
    """A model's parameters, nowhere at their initial values."""
    params, state = model.init(KEY, x)
    numbers = np.random.default_rng(1)
    move = lambda leaf: leaf + 0.2 * numbers.normal(size=leaf.shape).astype(np.float32)  # noqa: E731
    return jax.tree.map(move, params), state


@pytest.mark.parametrize("name", MODELS)
def test_what_stands_after_the_end_changes_nothing(name):
    model = MODELS[name]
    params, state = with_parameters(model)
    encode = jax.jit(lambda x: model.apply(params, state, x)[0])
    expected = encode(X)
    noise = {
        field: jnp.where(REAL.reshape(N, LENGTH, *[1] * (v.ndim - 2)), v, 9)
        for field, v in X.items()
        if v.ndim > 1
    }
    noise["tokens"] = X["tokens"]
    np.testing.assert_array_equal(encode({**X, **noise}), expected)
    longer = {
        field: jnp.pad(v, [(0, 0), (0, 3), (0, 0)][: v.ndim]) if v.ndim > 1 else v
        for field, v in X.items()
    }
    np.testing.assert_allclose(encode(longer), expected, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_a_sentence_without_a_word_is_zeros_and_has_no_gradient(name):
    model = MODELS[name]
    params, state = with_parameters(model)
    empty = jax.tree.map(lambda leaf: leaf[3:], X)
    value, gradient = jax.jit(
        lambda p: (
            model.apply(p, state, empty)[0],
            jax.grad(lambda p: jnp.sum(model.apply(p, state, empty)[0]))(p),
        )
    )(params)
    assert not np.any(value)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_the_convolution_is_the_written_one():
    model = sentence_cnn(filters=7, window=2, positions=2)
    params, state = with_parameters(model)
    kernel, bias = params["convolution"]["kernel"].reshape(2, -1, 7), params["convolution"]["bias"]
    for i in range(3):
        length = ENDS[i]
        rows = [
            np.concatenate(
                [X["words"][i, j]]
                + [
                    params["positions"][k, j - X[e][i] + 128]
                    for k, e in enumerate(("head", "tail"))
                ]
            )
            for j in range(length)
        ]
        rows = np.stack([*rows, np.zeros_like(rows[0])])
        maps = [rows[j] @ kernel[0] + rows[j + 1] @ kernel[1] + bias for j in range(length)]
        expected = np.maximum(maps, 0).max(axis=0)
        np.testing.assert_allclose(model.apply(params, state, X)[0][i], expected, atol=1e-5)


def test_entities_are_told_apart_and_what_counts_is_their_distance():
    model = MODELS["cnn"]
    params, state = with_parameters(model)

    @jax.jit
    def encode(x):
        return model.apply(params, state, x)[0]

    exchanged = {**X, "head": X["tail"], "tail": X["head"]}
    assert np.abs(encode(exchanged) - encode(X))[:2].max() > 1e-3
    # Shifted by two, with its entities: zeros in front are padding in the tokens.
    shifted = {
        field: jnp.pad(v, [(0, 0), (2, 0), (0, 0)][: v.ndim]) if v.ndim > 1 else v + 2
        for field, v in X.items()
    }
    np.testing.assert_allclose(encode(shifted), encode(X), atol=1e-6)


def test_a_table_adds_to_the_given_vectors_and_has_zeros_beyond_its_rows():
    plain, trained = sentence_cnn(filters=7), sentence_cnn(filters=7, vocabulary=10)
    params, state = trained.init(KEY, X)
    assert not np.any(params["embedding"])
    bare = {"convolution": params["convolution"]}
    np.testing.assert_array_equal(trained.apply(params, state, X)[0], plain.apply(bare, {}, X)[0])
    table = jnp.asarray(RANDOM.normal(size=(10, WIDTH)), jnp.float32)
    rows = np.concatenate([table, np.zeros((10, WIDTH), np.float32)])[X["tokens"]]
    np.testing.assert_allclose(
        trained.apply({**params, "embedding": table}, state, X)[0],
        plain.apply(bare, {}, {**X, "words": X["words"] + rows})[0],
        atol=1e-5,
    )
    without = {"tokens": X["tokens"]}
    params, _ = sentence_cnn(vocabulary=20, width=3).init(KEY, without)
    assert params["embedding"].shape == (20, 3)
    with pytest.raises(ValueError, match="The inputs have no vectors of words: give the data set"):
        sentence_cnn().init(KEY, without)


def test_means_are_weighed():
    value, _ = mean_of_words().apply({}, {}, X)
    for i in range(3):
        weights, words = X["weights"][i, : ENDS[i]], X["words"][i, : ENDS[i]]
        weights = jnp.where(X["tokens"][i, : ENDS[i]] > 1, weights, 0)
        expected = np.average(words, axis=0, weights=weights)
        np.testing.assert_allclose(value[i], expected, atol=1e-6)
    # A word without a vector does not shorten the mean.
    unknown = {**X, "tokens": X["tokens"].at[:, 0].set(1)}
    known = {**X, "weights": X["weights"].at[:, 0].set(0)}
    np.testing.assert_array_equal(
        mean_of_words().apply({}, {}, unknown)[0], mean_of_words().apply({}, {}, known)[0]
    )


def test_of_single_words_prototypes_are_means_of_their_vectors():
    """A window of one word and filters that are the identity, of vectors without a negative."""
    vectors = np.abs(RANDOM.normal(size=(9, WIDTH))).astype(np.float32)
    source = array_source({"tokens": np.arange(2, 8)[:, None]}, [0, 0, 0, 1, 1, 1])
    source = looked_up(source, {"words": vectors})
    episode = source.episodes(2, 2, 1)(source.data, KEY)
    model = sentence_cnn(filters=WIDTH, window=1)
    own = {"convolution": {"kernel": jnp.eye(WIDTH), "bias": jnp.zeros(WIDTH)}}
    learner = prototypical(model, 2)
    params, state = learner.init(KEY, episode)
    params = {**params, "model": own}
    adapted, _ = learner.adapt(params, state, episode.support, KEY)
    logits, _ = learner.predict(params, state, adapted, episode.query.x, episode.query.mask)
    support, query = (vectors[batch.x["tokens"][:, 0]] for batch in episode)
    means = support.reshape(2, 2, WIDTH).mean(axis=1)
    expected = -((query[:, None] - means[None]) ** 2).sum(axis=-1)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


def test_vectors_are_no_parameters():
    source = array_source({"tokens": np.arange(2, 8)[:, None]}, [0, 0, 0, 1, 1, 1])
    source = looked_up(source, {"words": np.eye(9, WIDTH)})
    episode = source.episodes(2, 1, 1)(source.data, KEY)
    params, _ = nearest_mean(mean_of_words(), 2).init(KEY, episode)
    assert not jax.tree.leaves(params)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"inputs are \(2, 8\), and an encoder of texts takes"):
        sentence_cnn().init(KEY, jnp.ones((2, 8)))
    with pytest.raises(ValueError, match="filters is 0"):
        sentence_cnn(filters=0)
    with pytest.raises(ValueError, match="size is 7: give an even one"):
        text_transformer(size=7)
    with pytest.raises(ValueError, match="width is 8: give a multiple of 3"):
        text_transformer(size=8, heads=3).init(KEY, X)
