"""Every learner learns from texts as from images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import learners
from jaxmeta.data import array_source, looked_up
from jaxmeta.nn import from_functions, sentence_cnn
from jaxmeta.types import Episode

WAYS, LENGTH, WIDTH, WORDS = 2, 5, 4, 9
KEY = jax.random.key(0)
ENCODER = sentence_cnn(filters=6, positions=2)


def with_outputs(encoder):
    """The encoder and a linear layer."""

    def init(key, x):
        params, _ = encoder.init(key, x)
        return {"encoder": params, "head": jax.random.normal(key, (6, WAYS)) / 3}

    def apply(params, x):
        return encoder.apply(params["encoder"], {}, x)[0] @ params["head"]

    return from_functions(init, apply)


CLASSIFIER = with_outputs(ENCODER)
LEARNERS = {
    "prototypical": learners.prototypical(ENCODER, WAYS),
    "siamese": learners.siamese(ENCODER, WAYS),
    "matching": learners.matching(ENCODER, WAYS),
    "ridge": learners.ridge(ENCODER, WAYS),
    "maml": learners.maml(CLASSIFIER, WAYS, steps=2, learning_rate=0.1),
    "anil": learners.anil(ENCODER, WAYS, steps=2),
    "meta_sgd": learners.meta_sgd(CLASSIFIER, WAYS, steps=2, learning_rate=0.1),
    "maml_plus_plus": learners.maml_plus_plus(CLASSIFIER, WAYS, steps=2),
    "proto_maml": learners.proto_maml(ENCODER, WAYS, steps=2),
    "imaml": learners.imaml(CLASSIFIER, WAYS, steps=2, learning_rate=0.1, solver_steps=1),
    "reptile": learners.reptile(CLASSIFIER, WAYS, steps=2, learning_rate=0.1, batch=None),
    "nearest_mean": learners.nearest_mean(ENCODER, WAYS),
    "logistic_regression": learners.logistic_regression(ENCODER, WAYS, steps=2),
    "fine_tuning": learners.fine_tuning(ENCODER, WAYS, steps=2, trained="all"),
    "from_scratch": learners.from_scratch(CLASSIFIER, WAYS, steps=2, learning_rate=0.1),
}
FAST = ("prototypical", "maml", "logistic_regression")  # one of each frame


@functools.cache
def episode():
    """One word tells the class; the others, and the places of the entities, are random."""
    random = np.random.default_rng(0)
    y = np.arange(20) % 2
    tokens = random.integers(4, WORDS, size=(20, LENGTH))
    tokens[:, 1] = 2 + y
    tokens[:, 3:] *= random.integers(0, 2, size=(20, 1))  # sentences of two lengths
    places = {name: random.integers(0, 3, size=20) for name in ("head", "tail")}
    source = array_source(jax.tree.map(np.int32, {"tokens": tokens, **places}), y)
    source = looked_up(source, {"words": np.float32(random.normal(size=(WORDS, WIDTH)))})
    return source.episodes(WAYS, 3, 2)(source.data, KEY)


def padded(batch):
    """An empty sentence behind each part, masked."""
    return jax.tree.map(lambda leaf: jnp.pad(leaf, [(0, 1), *[(0, 0)] * (leaf.ndim - 1)]), batch)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in FAST)) for n in LEARNERS]
)
def test_empty_sentences_that_are_masked_change_nothing(name):
    learner = LEARNERS[name]

    @jax.jit
    def logits(episode):
        params, state = learner.init(KEY, episode)
        adapted, _ = learner.adapt(params, state, episode.support, KEY)
        return learner.predict(params, state, adapted, episode.query.x)[0]

    alone = logits(episode())
    beside = logits(Episode(*map(padded, episode())))
    assert alone.shape == (2 * WAYS, WAYS)
    assert np.isfinite(beside).all()
    np.testing.assert_allclose(beside[:-1], alone, atol=1e-5)
    assert np.ptp(alone, axis=0).max() > 1e-4  # it tells sentences apart
