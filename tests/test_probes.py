"""Probes against numpy and scikit-learn; features that do not depend on how they are batched."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jaxmeta.data import array_source, class_source, sinusoid, streamed_source
from jaxmeta.losses import accuracy
from jaxmeta.nn.layers import Statistics, batch_norm
from jaxmeta.probes import (
    all_examples,
    best_penalty,
    features,
    logistic_probe,
    nearest_neighbors,
    ridge_probe,
    statistics,
)
from jaxmeta.types import Model

CLASSES = 4


@cache
def labeled(n=120, d=10, seed=0):
    """Features of very different scales around the means of their classes, and queries."""
    random = np.random.default_rng(seed)
    means, y = random.normal(size=(CLASSES, d)), random.integers(CLASSES, size=2 * n)
    z = (means[y] + 1.5 * random.normal(size=(2 * n, d))) * np.logspace(-2, 2, d) + 3
    z = z.astype(np.float32)
    return z[:n], y[:n].astype(np.int32), z[n:], y[n:].astype(np.int32)


def batch_normalized_layer(outputs):
    def init(key, x):
        kernel = jax.random.normal(key, (x.shape[1], outputs))
        return kernel, Statistics(jnp.full(outputs, 0.5), jnp.full(outputs, 2.0))

    def apply(params, state, x, mask=None, key=None, batch_statistics=True):
        one, zero = jnp.ones(params.shape[1]), jnp.zeros(params.shape[1])
        return batch_norm(x @ params, one, zero, state, mask, batch_statistics)

    return Model(init, apply)


MODEL = batch_normalized_layer(4)
X = jax.random.normal(jax.random.key(1), (22, 3))
PARAMS, STATE = MODEL.init(jax.random.key(0), X)


def close(tree, other, **tolerance):
    jax.tree.map(partial(np.testing.assert_allclose, **tolerance), tree, other)


def test_features_in_batches_are_those_of_all_at_once():
    whole, _ = MODEL.apply(PARAMS, STATE, X, batch_statistics=False)
    for batch in (5, 11, 256):
        close(features(MODEL, PARAMS, STATE, X, batch), whole, rtol=1e-5, atol=1e-6)
    several = jax.vmap(lambda params: features(MODEL, params, STATE, X, 5))
    close(several(jnp.stack([PARAMS, 2 * PARAMS]))[0], whole, rtol=1e-5, atol=1e-6)
    # Batches of one size: 22 in three are 8, 8 and 6, which padding does not change.
    own = features(MODEL, PARAMS, STATE, X, 9, batch_statistics=True)
    parts = [MODEL.apply(PARAMS, STATE, X[a:b])[0] for a, b in ((0, 8), (8, 16), (16, 22))]
    close(own, jnp.concatenate(parts), rtol=1e-5, atol=1e-5)


def test_statistics_are_the_mean_over_batches():
    def alone(*rows):
        return MODEL.apply(PARAMS, STATE, X[np.concatenate(rows)])[1]

    n = np.arange(22)
    close(statistics(MODEL, PARAMS, STATE, X), alone(n), rtol=1e-5, atol=1e-6)
    halves = jax.tree.map(lambda a, b: (a + b) / 2, alone(n[::2]), alone(n[1::2]))
    close(statistics(MODEL, PARAMS, STATE, X, 11), halves, rtol=1e-5, atol=1e-6)
    parts = alone(n[::3]), alone(n[1::3], n[2:3]), alone(n[5::3])
    ragged = jax.tree.map(lambda a, b, c: (8 * a + 8 * b + 6 * c) / 22, *parts)
    close(statistics(MODEL, PARAMS, STATE, X, 8), ragged, rtol=1e-5, atol=1e-6)


def test_nothing_compiles_twice():
    traces = []

    def apply(*given, **options):
        traces.append(())
        return MODEL.apply(*given, **options)

    model = MODEL._replace(apply=apply)
    features(model, PARAMS, STATE, X, 8)
    first = len(traces)
    features(model, PARAMS, STATE, X + 1, 8)
    assert len(traces) == first


def test_all_examples_of_a_source_are_decoded_and_labeled():
    images = np.random.default_rng(0).integers(256, size=(6, 4, 4, 1), dtype=np.uint8)
    x, y, mask = all_examples(class_source(images, [2, 0, 4], ["ant", "bee", "cat"]))
    np.testing.assert_allclose(x, images / 255, rtol=1e-6)
    assert (y.tolist(), mask.tolist()) == ([0, 0, 2, 2, 2, 2], [1] * 6)
    source = array_source(images, [1, 0, 1, 0, 1, 1])
    x, y, _ = all_examples(source, decode=lambda image, variant: image.astype(jnp.float32))
    np.testing.assert_array_equal(x, images[[1, 3, 0, 2, 4, 5]])
    assert y.tolist() == [0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (20, 0.07), (30, 1.0), (5, 1e-3)])
def test_nearest_neighbors_vote_as_in_numpy_and_sklearn(k, temperature):
    z, y, asked, _ = (v - 3 if v.ndim == 2 else v for v in labeled(d=5))
    found = nearest_neighbors(z, y, asked, CLASSES, k, temperature, batch=50)
    assert found.dtype == jnp.int32

    unit, other = (np.float64(v) / np.linalg.norm(v, axis=1, keepdims=True) for v in (asked, z))
    by_hand = []
    for cosines in unit @ other.T:
        votes = np.zeros(CLASSES)
        for i in np.argsort(-cosines)[:k]:
            votes[y[i]] += np.exp((cosines[i] - 1) / temperature)
        by_hand.append(votes.argmax())
    np.testing.assert_array_equal(found, by_hand)

    def weights(distances):
        return np.exp(-distances / temperature)

    peer = KNeighborsClassifier(k, metric="cosine", weights=weights, algorithm="brute")
    np.testing.assert_array_equal(found, peer.fit(other, y).predict(unit))
    if k == 20:
        jitted = jax.jit(lambda *given: nearest_neighbors(*given, CLASSES))
        np.testing.assert_array_equal(jitted(z, y, asked), found)
        several = jax.vmap(lambda y: nearest_neighbors(z, y, asked, CLASSES, batch=50))
        np.testing.assert_array_equal(several(np.stack([y, 3 - y])), [found, 3 - found])


def normal_equations(z, y, asked, penalty):
    mean, std = z.mean(axis=0), z.std(axis=0)
    x, targets = (z - mean) / std, np.eye(CLASSES)[y]
    gram = x.T @ x + len(x) * penalty * np.eye(x.shape[1])
    kernel = np.linalg.solve(gram, x.T @ targets)
    return (asked - mean) / std @ kernel + targets.mean(axis=0)


@pytest.mark.parametrize("d", [10, 200])  # fewer than the examples, and more
@pytest.mark.parametrize("penalty", [1e-3, 0.1, 10.0])
def test_ridge_solves_the_normal_equations(d, penalty):
    z, y, asked, _ = labeled(d=d)
    logits = ridge_probe(z, y, CLASSES, penalty)(asked)
    wide = np.float64(z), y, np.float64(asked)
    np.testing.assert_allclose(logits, normal_equations(*wide, penalty), atol=2e-4)
    peer = make_pipeline(StandardScaler(), Ridge(alpha=len(z) * penalty))
    by_peer = peer.fit(wide[0], np.eye(CLASSES)[y]).predict(wide[2])
    np.testing.assert_allclose(logits, by_peer, atol=2e-4)


@pytest.mark.parametrize("penalty", [0.01, 1.0])
def test_logistic_regression_is_that_of_sklearn(penalty):
    z, y, asked, _ = labeled()
    probabilities = jax.nn.softmax(logistic_probe(z, y, CLASSES, penalty)(asked))
    peer = LogisticRegression(C=1 / (len(z) * penalty), tol=1e-8, max_iter=1000)
    peer = make_pipeline(StandardScaler(), peer).fit(np.float64(z), y)
    np.testing.assert_allclose(probabilities, peer.predict_proba(np.float64(asked)), atol=1e-3)


@pytest.mark.parametrize("fit", [ridge_probe, logistic_probe])
def test_linear_probes_do_not_change_with_scale_shift_or_constant_features(fit):
    z, y, asked, _ = labeled()
    logits = fit(z, y, CLASSES, 0.1)(asked)

    def changed(z):
        constant = np.full((len(z), 2), (0, 0.3), np.float32)
        return np.concatenate([np.float32(100) * z - 7, constant], axis=1)

    several = jax.vmap(lambda penalty: fit(changed(z), y, CLASSES, penalty))(jnp.array([0.1, 9.0]))
    first, second = jax.vmap(lambda probe: probe(changed(asked)))(several)
    np.testing.assert_allclose(first, logits, atol=2e-3)
    assert not np.any(several.kernel[:, -2:])
    # A larger penalty says less.
    assert np.ptp(second) < np.ptp(first)
    half = fit(jnp.asarray(z, jnp.bfloat16), y, CLASSES, 0.1)
    assert half.kernel.dtype == jnp.float32


def test_the_best_penalty_is_the_most_accurate_on_what_was_held_out():
    z, y, held_out, held_out_y = labeled(n=60, d=50)
    penalties = [1e-4, 1e-2, 1.0, 100.0]
    scores = [
        np.mean(normal_equations(np.float64(z), y, np.float64(held_out), p).argmax(1) == held_out_y)
        for p in penalties
    ]
    assert len(set(scores)) > 1
    best = best_penalty(ridge_probe, (z, y), (held_out, held_out_y), CLASSES, penalties)
    assert best == penalties[int(np.argmax(scores))]
    logits = ridge_probe(z, y, CLASSES, best)(held_out)
    np.testing.assert_allclose(accuracy(logits, held_out_y, np.ones(60, np.float32)), max(scores))


Z, Y, ASKED, _ = labeled()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: features(MODEL, PARAMS, STATE, X, batch=0), "batch is 0: give"),
        (lambda: statistics(MODEL, PARAMS, STATE, X[:0]), r"are \[0\] in number: give"),
        (lambda: features(MODEL, PARAMS, STATE, (X, X[1:])), r"are \[22, 21\] in number: give"),
        (lambda: all_examples(sinusoid()["train"]), "without examples: give a source"),
        (
            lambda: all_examples(streamed_source(np.zeros((2, 1)), {"ant": range(2)})),
            "a ClassData without examples: give a source",
        ),
        (lambda: ridge_probe(Z, Y[1:], CLASSES, 1.0), r"labels shape \(119,\) .*: give features"),
        (lambda: ridge_probe(Z[0], Y, CLASSES, 1.0), r"shape \(10,\), .*: give features"),
        (lambda: logistic_probe(Z, Z[:, 0], CLASSES, 1.0), "type float32: give features"),
        (lambda: logistic_probe(Z, Y, 3, 1.0), "Label 3 is outside of 3 classes: give"),
        (lambda: nearest_neighbors(Z, Y - 1, ASKED, CLASSES), "Label -1 is outside of 4"),
        (lambda: ridge_probe(Z, Y, CLASSES, 0.0), "penalty is 0.0: give a positive"),
        (lambda: logistic_probe(Z, Y, CLASSES, 1.0, steps=-1), "steps is -1: give"),
        (lambda: nearest_neighbors(Z, Y, ASKED[:, 1:], CLASSES), r"\(120, 9\) to be asked"),
        (lambda: nearest_neighbors(Z, Y, ASKED, CLASSES, k=121), "k is 121 and there are 120"),
        (lambda: nearest_neighbors(Z, Y, ASKED, CLASSES, temperature=0.0), "temperature is 0.0"),
        (lambda: best_penalty(ridge_probe, (Z, Y), (Z, Y), CLASSES, []), "0 penalties: give"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
