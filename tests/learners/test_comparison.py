"""The methods that compare, against numpy and scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from jaxmeta.learners import matching, nearest_mean, relation, ridge, siamese
from jaxmeta.losses import pair_verification, relation_error
from jaxmeta.nn import conv4, from_functions
from jaxmeta.types import Batch, Episode

KEY = jax.random.key(0)
SUPPORT = Batch(
    jax.random.normal(jax.random.key(1), (6, 4)), jnp.array([0, 0, 1, 1, 2, 2]), jnp.ones(6)
)
QUERY_X = jax.random.normal(jax.random.key(2), (5, 4))
IDENTITY = from_functions(lambda key, x: {}, lambda params, x: x)
X, Y, Q = (np.asarray(a, np.float64) for a in (SUPPORT.x, SUPPORT.y, QUERY_X))


def answers(learner, head=()):
    params = {"model": {}, "head": head}
    adapted, _ = learner.adapt(params, {}, SUPPORT, KEY)
    return np.asarray(learner.predict(params, {}, adapted, QUERY_X)[0])


def initial_head(learner):
    return learner.init(KEY, Episode(SUPPORT, SUPPORT))[0]["head"]


def cosines(one, other):
    lengths = np.linalg.norm(one, axis=1)[:, None] * np.linalg.norm(other, axis=1)[None]
    return one @ other.T / lengths


def best_of_class(pairs):
    return np.stack([pairs[:, k == Y].max(axis=1) for k in range(3)], axis=1)


def test_siamese_answers_with_the_best_match():
    head = {"weight": jnp.array([0.5, -0.2, 1.0, 0.1]), "bias": jnp.float32(0.3)}
    apart = np.abs(Q[:, None] - X[None]) @ np.asarray(head["weight"], np.float64)
    by_hand = best_of_class(0.3 - apart)
    np.testing.assert_allclose(answers(siamese(IDENTITY, 3), head), by_hand, rtol=1e-4)
    head = {"weight": jnp.float32(7), "bias": jnp.float32(-1)}
    by_hand = best_of_class(7 * cosines(Q, X) - 1)
    learner = siamese(IDENTITY, 3, similarity="cosine")
    np.testing.assert_allclose(answers(learner, head), by_hand, rtol=1e-4, atol=1e-5)


def test_matching_weighs_labels_by_attention():
    weights = np.exp(cosines(Q, X))
    by_hand = weights @ np.eye(3)[np.asarray(SUPPORT.y)] / weights.sum(axis=1, keepdims=True)
    logits = answers(matching(IDENTITY, 3))
    np.testing.assert_allclose(jax.nn.softmax(logits), by_hand, rtol=1e-5)


def test_full_context_sees_the_whole_support_set_and_is_what_its_equations_say():
    learner = matching(IDENTITY, 3, full_context=True, reads=2)
    head = initial_head(learner)
    np.testing.assert_allclose(answers(learner, head), full_context(head, 2), rtol=1e-4)


def full_context(head, reads):
    """Equations 3 to 6 and appendix A of Vinyals et al., 2016, one example at a time."""
    head = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), head)

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    def lstm(weights, x, hidden, cell):
        gates = x @ weights["input"] + hidden @ weights["recurrent"] + weights["bias"]
        i, f, g, o = np.split(gates, 4)
        cell = sigmoid(f + 1) * cell + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(cell), cell

    def along(weights, rows):
        hidden, cell, outputs = np.zeros(4), np.zeros(4), []
        for row in rows:
            hidden, cell = lstm(weights, row, hidden, cell)
            outputs.append(hidden)
        return np.array(outputs)

    support = along(head["forward"], X) + along(head["backward"], X[::-1])[::-1] + X
    rows = []
    for query in Q:
        hidden, cell = np.zeros(4), np.zeros(4)
        for _ in range(reads):
            attention = np.exp(support @ hidden)
            read = attention @ support / attention.sum()
            output, cell = lstm(head["read"], query, np.concatenate([hidden, read]), cell)
            hidden = output + query
        rows.append(hidden)
    weights = np.exp(cosines(np.array(rows), support))
    return np.log(weights @ np.eye(3)[np.asarray(SUPPORT.y)])


def test_ridge_is_that_of_scikit_learn():
    learner = ridge(IDENTITY, 3, penalty=0.7)
    head = {**initial_head(learner), "scale": jnp.float32(3), "bias": jnp.float32(0.5)}
    model = Ridge(alpha=0.7, fit_intercept=False).fit(X, np.eye(3)[np.asarray(SUPPORT.y)])
    np.testing.assert_allclose(answers(learner, head), 3 * model.predict(Q) + 0.5, rtol=1e-4)


def test_nearest_mean_of_features_of_unit_length():
    x, q = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (X, Q))
    means = x.reshape(3, 2, 4).mean(axis=1)
    by_hand = -((q[:, None] - means[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(answers(nearest_mean(IDENTITY, 3)), by_hand, rtol=1e-4)


def test_relation_compares_the_mean_of_a_class_with_the_query():
    maps = from_functions(lambda key, x: {}, lambda params, x: x[:, None, None])
    # Says how far the second half of the channels is from the first.
    module = from_functions(
        lambda key, pairs: {},
        lambda params, pairs: -jnp.sum((pairs[:, 0, 0, :4] - pairs[:, 0, 0, 4:]) ** 2, axis=-1),
    )
    learner = relation(maps, 3, module=module)
    params, state = {"model": {}, "head": {}}, {"model": {}, "head": {}}
    adapted, _ = learner.adapt(params, state, SUPPORT, KEY)
    logits, _ = learner.predict(params, state, adapted, QUERY_X)
    means = X.reshape(3, 2, 4).mean(axis=1)
    by_hand = -((means[None] - Q[:, None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(logits, by_hand, rtol=1e-4)


def test_relation_needs_maps_of_some_size():
    episode = Episode(*(Batch(jnp.ones((3, 28, 28, 1)), jnp.arange(3), jnp.ones(3)),) * 2)
    with pytest.raises(ValueError, match=r"embeds examples as \[4\]: relation networks compare"):
        relation(conv4(filters=4), 3).init(KEY, episode)
    with pytest.raises(ValueError, match=r"Maps of 1 x 1 are too small to be halved twice"):
        relation(conv4(filters=4, flatten=False), 3).init(KEY, episode)
    params, _ = relation(conv4(filters=4, halvings=2, flatten=False), 3).init(KEY, episode)
    assert params["head"]["hidden"]["kernel"].shape == (64, 8)


def test_pair_verification_weighs_both_kinds_of_pairs_alike():
    z = np.array([[2.0, -1.0, -np.inf], [0.5, 0.3, -np.inf], [9.0, 9.0, -np.inf]])
    y, mask = jnp.array([0, 1, 0]), jnp.array([1.0, 1.0, 0.0])

    def log_sigmoid(x):
        return -np.log1p(np.exp(-x))

    by_hand = (
        -(log_sigmoid(2.0) + log_sigmoid(0.3)) / 4 - (log_sigmoid(1.0) + log_sigmoid(-0.5)) / 4
    )
    value, gradient = jax.value_and_grad(pair_verification)(jnp.asarray(z, jnp.float32), y, mask)
    np.testing.assert_allclose(value, by_hand, rtol=1e-5)
    assert np.isfinite(gradient).all()
    assert (gradient[2] == 0).all()


def test_relation_error_is_the_squared_error_of_the_scores():
    z = np.array([[2.0, -1.0, -np.inf], [0.5, 0.3, -np.inf]])
    scores = 1 / (1 + np.exp(-z))
    by_hand = ((scores - np.array([[1, 0, 0], [0, 1, 0]])) ** 2).sum() / 2
    arguments = (jnp.asarray(z, jnp.float32), jnp.array([0, 1]), jnp.ones(2))
    value, gradient = jax.value_and_grad(relation_error)(*arguments)
    np.testing.assert_allclose(value, by_hand, rtol=1e-5)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: siamese(IDENTITY, 3, similarity="l2"), "similarity is 'l2': choose"),
        (lambda: ridge(IDENTITY, 3, penalty=0), "penalty is 0: give a positive number"),
        (lambda: matching(IDENTITY, 3, normalization="batch"), "'inductive'.*'batch'"),
    ],
)
def test_wrong_arguments_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()
