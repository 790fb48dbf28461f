"""Each method's defining property, against numpy or a loop written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.data import make_batch
from jaxmeta.inner import sgd, unroll
from jaxmeta.learners import from_scratch, gradient_learner, maml, prototypical
from jaxmeta.nn import from_functions, mlp
from jaxmeta.types import Batch, Episode

KEY = jax.random.key(0)
SUPPORT = Batch(
    jax.random.normal(jax.random.key(1), (6, 4)), jnp.array([0, 0, 1, 1, 2, 2]), jnp.ones(6)
)
QUERY_X = jax.random.normal(jax.random.key(2), (5, 4))
IDENTITY = from_functions(lambda key, x: {}, lambda params, x: x)


def test_prototypes_are_class_means_and_logits_negative_squared_distances():
    learner = prototypical(IDENTITY, 3)
    adapted, _ = learner.adapt({"model": {}}, {}, SUPPORT, KEY)
    logits, _ = learner.predict({"model": {}}, {}, adapted, QUERY_X)
    means = np.asarray(SUPPORT.x).reshape(3, 2, 4).mean(axis=1)
    by_hand = -((np.asarray(QUERY_X)[:, None] - means[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(adapted.memory, means, rtol=1e-5)
    np.testing.assert_allclose(logits, by_hand, rtol=1e-4)


def test_maml_is_gradient_descent_on_the_support_set():
    model = mlp(3, (5,))
    learner = maml(model, 3, steps=3, learning_rate=0.5)
    params, state = learner.init(KEY, Episode(SUPPORT, SUPPORT))
    adapted, metrics = learner.adapt(params, state, SUPPORT, KEY)

    def loss(params):
        logits, _ = model.apply(params, {}, SUPPORT.x)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), SUPPORT.y[:, None], axis=1)
        return -jnp.mean(chosen)

    by_hand = params["model"]
    for step in range(3):
        np.testing.assert_allclose(metrics["support_loss"][step], loss(by_hand), rtol=1e-5)
        by_hand = jax.tree.map(lambda p, g: p - 0.5 * g, by_hand, jax.grad(loss)(by_hand))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), adapted.fast, by_hand
    )


def test_slow_parameters_do_not_adapt_but_are_still_learned():
    learner = gradient_learner(
        mlp(3, (5,)), unroll(sgd(0.5), 2), 3, fast=lambda name: name.startswith("head/")
    )
    params, state = learner.init(KEY, Episode(SUPPORT, SUPPORT))
    adapted, _ = learner.adapt(params, state, SUPPORT, KEY)
    assert adapted.fast["layer0"]["kernel"] is None
    assert np.abs(adapted.fast["head"]["kernel"] - params["model"]["head"]["kernel"]).max() > 1e-3

    def outer(params):
        adapted, _ = learner.adapt(params, state, SUPPORT, KEY)
        logits, _ = learner.predict(params, state, adapted, QUERY_X)
        return jnp.sum(logits**2)

    assert np.abs(jax.grad(outer)(params)["model"]["layer0"]["kernel"]).max() > 1e-3


def test_inductive_answers_do_not_depend_on_the_other_queries():
    from jaxmeta.nn import conv4

    x = jax.random.normal(KEY, (6, 16, 16, 1))
    support = SUPPORT._replace(x=x)
    answers = {}
    for mode in ("inductive", "transductive"):
        learner = prototypical(conv4(filters=4), 3, normalization=mode)
        params, state = learner.init(KEY, Episode(support, support))

        @jax.jit
        def solve(query, learner=learner, params=params, state=state):
            adapted, _ = learner.adapt(params, state, support, KEY)
            return learner.predict(params, state, adapted, query)[0]

        queries = jax.random.normal(jax.random.key(3), (4, 16, 16, 1))
        other = queries.at[1:].multiply(3)
        answers[mode] = np.abs(solve(queries)[0] - solve(other)[0]).max()
    assert answers["inductive"] < 1e-4
    assert answers["transductive"] > 1e-2


@pytest.mark.parametrize("make", [prototypical, maml, from_scratch])
def test_mistakes_are_named_before_anything_is_computed(make):
    model = mlp(3, (4,))
    with pytest.raises(ValueError, match="'inductive' or 'running', but is 'batch'"):
        make(model, 3, normalization="batch")
    learner = make(model, 3)
    params, state = learner.init(KEY, Episode(SUPPORT, SUPPORT))
    for change, words in (
        ({"y": jnp.array([0, 0, 1, 1, 2, 3])}, "Label 3 is outside the 3 ways"),
        ({"y": jnp.array([0, 0, 1, 1, 2, -2])}, "Label -2 is outside the 3 ways"),
        ({"y": SUPPORT.y[:5]}, r"different lengths \[5, 6\]"),
        ({"y": jnp.ones(6)}, "Labels are of type float32"),
    ):
        with pytest.raises(ValueError, match=words):
            learner.adapt(params, state, SUPPORT._replace(**change), KEY)


def test_a_head_must_fit_the_ways():
    learner = maml(mlp(4), 3)
    params, state = learner.init(KEY, Episode(SUPPORT, SUPPORT))
    with pytest.raises(ValueError, match="4 outputs but the learner is to tell 3 ways apart"):
        learner.adapt(params, state, SUPPORT, KEY)


def test_running_statistics_need_a_past():
    with pytest.raises(ValueError, match="has no averages"):
        from_scratch(mlp(3), 3, normalization="running")


def test_a_users_own_arrays_are_classified():
    learner = prototypical(IDENTITY, 2)
    support = make_batch(np.array([[0.0], [10.0]]), np.array([0, 1]), ways=2)
    adapted, _ = learner.adapt({"model": {}}, {}, support, KEY)
    logits, _ = learner.predict({"model": {}}, {}, adapted, jnp.array([[1.0], [8.0]]))
    np.testing.assert_array_equal(np.argmax(logits, axis=1), [0, 1])
