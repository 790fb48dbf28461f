"""The methods that adapt a head: against each other, by hand, and against scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.linear_model import LogisticRegression

from jaxmeta.inner import sgd, unroll
from jaxmeta.learners import (
    anil,
    fine_tuning,
    gradient_learner,
    logistic_regression,
    nearest_mean,
    proto_maml,
    prototypical,
)
from jaxmeta.losses import cross_entropy
from jaxmeta.nn import chained, conv4, from_functions, mlp
from jaxmeta.pretraining import supervised
from jaxmeta.types import Batch, Episode

KEY = jax.random.key(0)
SUPPORT = Batch(
    jax.random.normal(jax.random.key(1), (6, 4)), jnp.array([0, 0, 1, 1, 2, 2]), jnp.ones(6)
)
QUERY = Batch(jax.random.normal(jax.random.key(2), (5, 4)), jnp.array([0, 1, 2, 0, 1]), jnp.ones(5))
TASK = Episode(SUPPORT, QUERY)
IDENTITY = from_functions(lambda key, x: {}, lambda params, x: x)
EMBEDDING = mlp(8, (5,))
X, Q = (np.asarray(a, np.float64) for a in (SUPPORT.x, QUERY.x))
LABELS = np.asarray(SUPPORT.y)


def solve(learner, params=None):
    params = learner.init(KEY, TASK)[0] if params is None else params
    adapted, _ = learner.adapt(params, {}, SUPPORT, KEY)
    return learner.predict(params, {}, adapted, QUERY.x, QUERY.mask)[0]


def test_anil_is_maml_of_the_head_alone():
    """The whole network in one model, of which only the head is fast, gives the same gradient."""

    def init(key, x):
        params, _ = EMBEDDING.init(key, x)
        return {"embedding": params, "kernel": jnp.zeros((8, 3)), "bias": jnp.zeros(3)}

    def apply(params, x):
        embedded, _ = EMBEDDING.apply(params["embedding"], {}, x)
        return embedded @ params["kernel"] + params["bias"][None]

    whole = gradient_learner(
        from_functions(init, apply),
        unroll(sgd(0.3), 3),
        3,
        fast=lambda name: not name.startswith("embedding"),
    )
    ours = anil(EMBEDDING, 3, steps=3, learning_rate=0.3)
    params, _ = ours.init(KEY, TASK)
    same = {"embedding": params["model"], **params["head"]}

    def query_loss(learner, params):
        return cross_entropy(solve(learner, params), QUERY.y, QUERY.mask)

    gradient = jax.jit(jax.grad(lambda p: query_loss(ours, p)))(params)
    reference_gradient = jax.jit(jax.grad(lambda p: query_loss(whole, p)))
    reference = reference_gradient({"model": same, "hyper": ()})["model"]
    together = {"embedding": gradient["model"], **gradient["head"]}
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), together, reference
    )


def test_proto_maml_without_steps_is_a_prototypical_network():
    start = proto_maml(EMBEDDING, 3, steps=0)
    params, _ = start.init(KEY, TASK)
    ours, theirs = (
        jax.nn.log_softmax(solve(learner, params))
        for learner in (start, prototypical(EMBEDDING, 3))
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_proto_maml_by_hand():
    """Two steps of all three, and the outer gradient through them and through the class means."""
    learner = proto_maml(EMBEDDING, 3, steps=2, learning_rate=0.1)
    params, _ = learner.init(KEY, TASK)

    def logits(weights, x):
        embedded, _ = EMBEDDING.apply(weights["theta"], {}, x)
        return embedded @ weights["w"] + weights["b"][None]

    def loss(weights, batch):
        log_p = jax.nn.log_softmax(logits(weights, batch.x))
        return -jnp.mean(log_p[jnp.arange(len(batch.y)), batch.y])

    def by_hand(theta):
        embedded, _ = EMBEDDING.apply(theta, {}, SUPPORT.x)
        means = embedded.reshape(3, 2, 8).mean(axis=1)
        weights = {"theta": theta, "w": 2 * means.T, "b": -(means**2).sum(axis=1)}
        for _ in range(2):
            gradient = jax.grad(loss)(weights, SUPPORT)
            weights = jax.tree.map(lambda w, g: w - 0.1 * g, weights, gradient)
        return loss(weights, QUERY)

    def ours(theta):
        return cross_entropy(solve(learner, {**params, "model": theta}), QUERY.y, QUERY.mask)

    (value, gradient), (expected, expected_gradient) = (
        jax.jit(jax.value_and_grad(function))(params["model"]) for function in (ours, by_hand)
    )
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        gradient,
        expected_gradient,
    )


def adam(loss, start, steps, rate):
    """Adam, written out."""
    theta, first, second = start, np.zeros_like(start), np.zeros_like(start)
    for step in range(1, steps + 1):
        gradient = np.asarray(jax.grad(loss)(jnp.asarray(theta, jnp.float32)), np.float64)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        scaled = np.sqrt(second / (1 - 0.999**step)) + 1e-8
        theta = theta - rate * first / (1 - 0.9**step) / scaled
    return theta


@pytest.mark.parametrize("head", ["linear", "cosine"])
@pytest.mark.parametrize("entropy", [0.0, 0.7])
def test_fine_tuning_by_hand(head, entropy):
    """Means of unit rows for weights, no bias, then Adam on the loss as its formula has it."""
    means = (X / np.linalg.norm(X, axis=1, keepdims=True)).reshape(3, 2, 4).mean(axis=1)

    def logits(theta, x):
        weights, bias = theta[:, :4], theta[:, 4]
        if head == "linear":
            return x @ weights.T + bias[None]
        lengths = jnp.linalg.norm(x, axis=1)[:, None] * jnp.linalg.norm(weights, axis=1)[None]
        return x @ weights.T / lengths / 0.1 + bias[None]

    def loss(theta):
        log_p = jax.nn.log_softmax(logits(theta, SUPPORT.x))
        asked = jax.nn.log_softmax(logits(theta, QUERY.x))
        value = -jnp.mean(log_p[jnp.arange(6), SUPPORT.y])
        return value - entropy * jnp.mean(jnp.sum(jnp.exp(asked) * asked, axis=1))

    theta = adam(loss, np.concatenate([means, np.zeros((3, 1))], axis=1), 4, 0.05)
    learner = fine_tuning(IDENTITY, 3, head=head, steps=4, learning_rate=0.05, entropy=entropy)
    by_hand = logits(jnp.asarray(theta, jnp.float32), QUERY.x)
    np.testing.assert_allclose(solve(learner, {"model": {}}), by_hand, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("trained", ["head", "all"])
def test_entropy_brings_the_entropy_down_and_without_it_there_is_none(trained):
    def entropy_of(weight):
        learner = fine_tuning(
            EMBEDDING, 3, steps=20, learning_rate=1e-2, entropy=weight, trained=trained
        )
        p = jax.nn.softmax(solve(learner, PARAMS))
        return float(-jnp.mean(jnp.sum(p * jnp.log(p), axis=1)))

    PARAMS = fine_tuning(EMBEDDING, 3, trained=trained).init(KEY, TASK)[0]
    plain, least, strong = entropy_of(0.0), entropy_of(1e-9), entropy_of(2.0)
    assert strong < plain - 0.02
    assert least == pytest.approx(plain, rel=1e-4)


def test_the_whole_network_moves_only_when_asked():
    learner = fine_tuning(EMBEDDING, 3, steps=3, trained="all")
    params, _ = learner.init(KEY, TASK)
    adapted, metrics = learner.adapt(params, {}, SUPPORT, KEY)
    moved = optax.tree.norm(optax.tree.sub(adapted.fast["model"], params["model"]))
    assert moved > 1e-3
    assert metrics["support_loss"].shape == (3,)
    frozen, _ = fine_tuning(EMBEDDING, 3, steps=3).adapt(params, {}, SUPPORT, KEY)
    assert set(frozen.fast) == {"head"}


def test_logistic_regression_is_that_of_scikit_learn():
    x, q = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (X, Q))
    for c in (0.3, 10.0):
        theirs = LogisticRegression(C=c, tol=1e-8, max_iter=1000).fit(x, LABELS).predict_proba(q)
        ours = jax.nn.softmax(
            solve(logistic_regression(IDENTITY, 3, inverse_penalty=c), {"model": {}})
        )
        np.testing.assert_allclose(ours, theirs, rtol=2e-3)


def test_logistic_regression_runs_vmapped():
    learner = logistic_regression(IDENTITY, 3, steps=20)

    def one(x):
        support = SUPPORT._replace(x=x)
        adapted, _ = learner.adapt({"model": {}}, {}, support, KEY)
        return learner.predict({"model": {}}, {}, adapted, QUERY.x)[0]

    several = jnp.stack([SUPPORT.x, SUPPORT.x * 2 + 1, -SUPPORT.x])
    together = jax.jit(jax.vmap(one))(several)
    apart = jnp.stack([jax.jit(one)(x) for x in several])
    np.testing.assert_allclose(together, apart, rtol=1e-3, atol=1e-3)


def test_features_of_a_classifier_serve_every_learner_that_transfers_them():
    params, _ = supervised(EMBEDDING, 7).init(KEY, QUERY)
    for learner in (
        nearest_mean(EMBEDDING, 3),
        fine_tuning(EMBEDDING, 3, steps=1),
        fine_tuning(EMBEDDING, 3, steps=1, trained="all", entropy=0.1),
        logistic_regression(EMBEDDING, 3, steps=1),
        prototypical(EMBEDDING, 3),
    ):
        assert solve(learner, params).shape == (5, 3)


@pytest.mark.parametrize("cosine", [False, True])
def test_a_classifier_by_hand(cosine):
    """The loss and the accuracy of a batch of which one example is padding."""
    objective = supervised(IDENTITY, 3, cosine=cosine, temperature=0.5)
    params, _ = objective.init(KEY, QUERY)
    assert params["head"].keys() == ({"kernel"} if cosine else {"kernel", "bias"})
    kernel = jax.random.normal(jax.random.key(3), (4, 3))
    bias = jnp.zeros(3) if cosine else jnp.array([0.5, -1.0, 0.0])
    params["head"] = {"kernel": kernel, "bias": bias}
    masked = QUERY._replace(mask=jnp.array([1, 1, 1, 1, 0.0]))
    loss, report = objective.loss(params, {}, masked, KEY)
    rows, columns = Q[:4], np.asarray(kernel, np.float64)
    if cosine:
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        columns = columns / np.linalg.norm(columns, axis=0, keepdims=True) / 0.5
    logits = rows @ columns + np.asarray(bias)
    labels = np.asarray(QUERY.y)[:4]
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(loss, -log_p[np.arange(4), labels].mean(), rtol=1e-4)
    hits = np.mean(logits.argmax(axis=1) == labels)
    np.testing.assert_allclose(report.metrics["accuracy"], hits, rtol=1e-6)


def test_a_classifier_averages_the_statistics_of_its_batches():
    objective = supervised(conv4(filters=4), 3, decay=0.75)
    batch = QUERY._replace(x=jax.random.normal(KEY, (5, 16, 16, 1)))
    params, state = jax.jit(objective.init)(KEY, batch)
    _, report = jax.jit(objective.loss)(params, state, batch, KEY)
    after = objective.update(state, params, report.statistics)
    expected = jax.tree.map(lambda old, new: 0.75 * old + 0.25 * new, state, report.statistics)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), after, expected)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), after, state)
    assert min(jax.tree.leaves(moved)) > 1e-3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fine_tuning(IDENTITY, 3, head="svm"), "head is 'svm': choose"),
        (lambda: fine_tuning(IDENTITY, 3, temperature=0), "temperature is 0: give a positive"),
        (lambda: fine_tuning(IDENTITY, 3, entropy=-1), "entropy is -1: give 0 or more"),
        (lambda: logistic_regression(IDENTITY, 3, inverse_penalty=0), "inverse_penalty is 0"),
        (lambda: logistic_regression(IDENTITY, 3, steps=-1), "steps is -1"),
        (lambda: supervised(IDENTITY, 3, temperature=0), "temperature is 0: give a positive"),
        (lambda: supervised(IDENTITY, 3, decay=2), "decay is 2: give the share"),
    ],
)
def test_wrong_arguments_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


BLOCKS = chained(block0=mlp(4, hidden=()), block1=mlp(4, hidden=()))


def adapted_blocks(params, **options):
    learner = fine_tuning(BLOCKS, 3, learning_rate=1e-2, **options)
    adapted, metrics = learner.adapt(params, {"block0": {}, "block1": {}}, SUPPORT, KEY)
    return learner, adapted, metrics


def test_only_the_named_parts_are_trained_and_none_of_them_is_the_head_alone():
    params, state = fine_tuning(BLOCKS, 3).init(KEY, TASK)
    _, named, _ = adapted_blocks(params, trained=["block1"], steps=3)
    assert named.fast["model"]["block0"] == {"head": {"bias": None, "kernel": None}}
    moved = jax.tree.map(
        lambda a, b: np.abs(a - b).max(), named.fast["model"]["block1"], params["model"]["block1"]
    )
    assert min(jax.tree.leaves(moved)) > 1e-3
    # Depth 0 is feature transfer, bit for bit; all parts are the whole network.
    for one, other in (([], "head"), (["block0", "block1"], "all")):
        outputs = []
        for trained in (one, other):
            learner, adapted, _ = adapted_blocks(params, trained=trained, steps=3)
            outputs.append(learner.predict(params, state, adapted, QUERY.x)[0])
        np.testing.assert_array_equal(*outputs)


def test_the_head_comes_first_and_sees_fixed_features():
    params, _ = fine_tuning(BLOCKS, 3).init(KEY, TASK)
    _, head, before = adapted_blocks(params, steps=4)
    _, both, metrics = adapted_blocks(params, trained="all", head_steps=4, steps=2)
    assert metrics["support_loss"].shape == (6,)
    np.testing.assert_array_equal(metrics["support_loss"][:4], before["support_loss"])
    _, none, _ = adapted_blocks(params, trained="all", head_steps=4, steps=0)
    jax.tree.map(np.testing.assert_array_equal, none.fast["head"], head.fast["head"])
    jax.tree.map(np.testing.assert_array_equal, none.fast["model"], params["model"])
    assert np.abs(both.fast["model"]["block0"]["head"]["kernel"]).max() > 0


def test_rates_fall_with_depth():
    params, _ = fine_tuning(BLOCKS, 3).init(KEY, TASK)
    trained = ["block0", "block1"]
    _, even, _ = adapted_blocks(params, trained=trained, steps=1)
    _, falling, _ = adapted_blocks(params, trained=trained, steps=1, depth_factor=2.0)
    jax.tree.map(np.testing.assert_array_equal, falling.fast["head"], even.fast["head"])
    # Adam's first step is as long as its rate.
    for block, factor in (("block1", 2), ("block0", 4)):
        steps = [
            each.fast["model"][block]["head"]["kernel"] - params["model"][block]["head"]["kernel"]
            for each in (even, falling)
        ]
        np.testing.assert_allclose(steps[0], factor * steps[1], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"trained": "block1"}, r"trained is 'block1'.*\['block3'\]"),
        ({"trained": "all", "depth_factor": 2.0}, r"depth_factor is 2.0.*lowest first"),
        ({"depth_factor": 0}, r"depth_factor is 0"),
        ({"trained": ["block7"]}, r"fast must choose"),
        ({"trained": ["block1", "block7"], "depth_factor": 2.0}, r"'model/block7'"),
    ],
)
def test_parts_that_are_not_there_are_told(options, error):
    params, _ = fine_tuning(BLOCKS, 3).init(KEY, TASK)
    with pytest.raises(ValueError, match=error):
        adapted_blocks(params, **options)
