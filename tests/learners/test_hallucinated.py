"""Hallucination and calibration, against closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.learners import (
    ClassStatistics,
    calibrated,
    class_statistics,
    embedded,
    fine_tuning,
    from_scratch,
    hallucinated,
    logistic_regression,
    matching,
    nearest_mean,
    prototype_matching,
    prototypical,
    ridge,
)
from jaxmeta.losses import cross_entropy
from jaxmeta.nn import (
    conv4,
    from_functions,
    identity,
    isotropic,
    mlp,
    power,
    projector,
    residual_mlp,
)
from jaxmeta.objectives import episodic
from jaxmeta.types import Batch, Episode

WAYS, SHOTS, SIZE = 3, 2, 5
KEY = jax.random.key(0)
COPIES = from_functions(lambda key, x: {}, lambda params, x: x[:, :SIZE])


def batch(each: int, seed: int, dtype: np.dtype | type = np.float32) -> Batch:
    random = np.random.default_rng(seed)
    y = np.tile(np.arange(WAYS), each)
    x = 2 * np.eye(WAYS, SIZE)[y] + random.normal(size=(y.size, SIZE))
    return Batch(jnp.asarray(x, dtype), jnp.int32(y), jnp.ones(y.size, dtype))


SUPPORT, QUERY = batch(SHOTS, 0), batch(4, 1)
EPISODE = Episode(SUPPORT, QUERY)


def predicted(learner, params=None, state=None, support=SUPPORT):
    @jax.jit  # one program compiles faster than its operations one by one
    def answers(params, state, support):
        own = learner.init(KEY, EPISODE)
        params = own[0] if params is None else params
        state = own[1] if state is None else state
        adapted, _ = learner.adapt(params, state, support, KEY)
        return learner.predict(params, state, adapted, QUERY.x)[0]

    return answers(params, state, support)


@pytest.mark.parametrize(
    ("plain", "more", "tolerance"),
    [
        (prototypical(identity(), WAYS), prototypical(identity(), WAYS), 1e-5),
        (nearest_mean(identity(), WAYS), nearest_mean(identity(), WAYS), 1e-5),
        (matching(identity(), WAYS), matching(identity(), WAYS), 1e-5),
        (
            logistic_regression(identity(), WAYS, inverse_penalty=3.0, steps=100),
            logistic_regression(identity(), WAYS, inverse_penalty=1.0, steps=100),
            5e-3,
        ),
    ],
    ids=["prototypical", "nearest_mean", "matching", "logistic_regression"],
)
def test_copies_are_nothing_or_less_regularization(plain, more, tolerance):
    # Logistic regression on 1 + 2 copies is that on the examples with three times the C.
    copied = jax.nn.log_softmax(predicted(hallucinated(more, COPIES, extra=2)))
    np.testing.assert_allclose(copied, jax.nn.log_softmax(predicted(plain)), atol=tolerance)


def test_copies_divide_the_penalty_of_ridge():
    copied = hallucinated(ridge(identity(), WAYS), COPIES, extra=2)
    params, state = copied.init(KEY, EPISODE)
    penalty = params["head"]["log_penalty"]
    divided = {**params, "head": {**params["head"], "log_penalty": penalty - jnp.log(3.0)}}
    plain = predicted(ridge(identity(), WAYS), divided, state)
    np.testing.assert_allclose(predicted(copied, params), plain, atol=1e-4)


def test_without_examples_it_is_the_learner():
    plain = fine_tuning(identity(), WAYS, steps=2)
    assert hallucinated(plain, residual_mlp(codes=64), extra=0) is plain


def test_the_same_parameters_serve_the_learner_alone():
    plain = prototypical(mlp(4), WAYS)
    learner = hallucinated(plain, residual_mlp(codes=64), extra=2)
    params, state = learner.init(KEY, EPISODE)
    np.testing.assert_allclose(predicted(plain, params, state), predicted(learner), atol=1e-5)


def test_only_the_mean_counts_for_prototypes():
    """Any generators of one mean predict alike, and their noise is averaged."""

    def around(spread):
        signs = jnp.array([1.0, -1.0, 2.0, -2.0])

        def apply(params, x):
            seeds = x[:, :SIZE]
            each = jnp.repeat(signs, seeds.shape[0] // 4)
            return seeds + 1 + spread * each[:, None]

        return from_functions(lambda key, x: {}, apply)

    one, other = (
        predicted(hallucinated(prototypical(identity(), WAYS), around(spread), extra=4))
        for spread in (0.0, 3.0)
    )
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_noise_is_ridge():
    """Least squares on exact moments of noise is ridge regression with a larger penalty."""
    spread, extra = 0.7, 2 * SIZE
    # The sigma points of isotropic noise, whose second moments are exact.
    points = np.concatenate([np.eye(SIZE), -np.eye(SIZE)]) * np.sqrt(SIZE)

    def apply(params, x):
        seeds = x[:, :SIZE]
        each = jnp.repeat(jnp.float32(points), seeds.shape[0] // extra, axis=0)
        return seeds + spread * each

    noisy = from_functions(lambda key, x: {}, apply)
    x, n = np.asarray(SUPPORT.x, np.float64), SUPPORT.y.size
    targets = np.eye(WAYS)[np.asarray(SUPPORT.y)]
    hidden = hallucinated(prototypical(identity(), WAYS), noisy, extra)
    params, state = hidden.init(KEY, EPISODE)
    kept = []
    listening = prototypical(identity(), WAYS)._replace(
        adapt=lambda params, state, support, key: (kept.append(support), {})
    )
    hallucinated(listening, noisy, extra).adapt(params, state, SUPPORT, KEY)
    imagined = np.asarray(kept[0].x, np.float64)[n:]
    labels = np.tile(targets, (extra, 1))
    penalty = 0.1
    solved = np.linalg.solve(
        imagined.T @ imagined / extra + penalty * np.eye(SIZE), imagined.T @ labels / extra
    )
    expected = np.linalg.solve(x.T @ x + (penalty + n * spread**2) * np.eye(SIZE), x.T @ targets)
    np.testing.assert_allclose(solved, expected, atol=1e-5)


@pytest.mark.parametrize("spread", [1.0, 2.0])
def test_bayes_in_a_gaussian_world(spread):
    """The right map of the seed makes prototypes the posterior's means."""
    extra, shrunk = 3, 1 / (1 + spread**2)

    def apply(params, x):
        return ((1 + extra) * shrunk - 1) * x[:, :SIZE] / extra

    support = Batch(SUPPORT.x[:WAYS], SUPPORT.y[:WAYS], SUPPORT.mask[:WAYS])
    shrinking = from_functions(lambda key, x: {}, apply)
    learner = hallucinated(prototypical(identity(), WAYS), shrinking, extra)
    logits = predicted(learner, support=support)
    # The query's variance around the posterior mean is the same for every class.
    distances = jnp.sum((QUERY.x[:, None] - shrunk * support.x[None]) ** 2, axis=-1)
    np.testing.assert_allclose(logits, -distances, atol=1e-4)


def test_imagined_examples_are_drawn_anew_for_each_task_and_alike_for_each_example():
    kept = []
    listening = prototypical(identity(), WAYS)._replace(
        adapt=lambda params, state, support, key: (kept.append(support), {})
    )
    learner = hallucinated(listening, isotropic(), extra=2, noise=SIZE)
    params, state = learner.init(KEY, EPISODE)
    unlabeled = SUPPORT._replace(y=SUPPORT.y.at[1].set(-1), mask=SUPPORT.mask.at[2].set(0.0))
    for key in jax.random.split(KEY, 2):
        learner.adapt(params, state, unlabeled, key)
    one, other = kept
    n = SUPPORT.y.size
    np.testing.assert_array_equal(one.x[:n], SUPPORT.x)
    noise = (one.x[n:] - jnp.concatenate([SUPPORT.x] * 2)).reshape(2, n, SIZE)
    np.testing.assert_allclose(noise, np.broadcast_to(noise[:, :1], noise.shape), atol=1e-5)
    assert not np.allclose(noise[0], noise[1])
    assert not np.allclose(one.x[n:], other.x[n:])
    np.testing.assert_array_equal(one.y[n:], jnp.concatenate([unlabeled.y] * 2))
    expected = np.ones(n)
    expected[[1, 2]] = 0  # without a label, and padding
    np.testing.assert_array_equal(one.mask[n:], np.tile(expected, 2))
    np.testing.assert_array_equal(one.mask[:n], unlabeled.mask)


@pytest.mark.parametrize("codes", ["drawn", "learned", "zero"])
def test_the_gradient_of_the_generator_is_that_of_finite_differences(codes):
    learner = hallucinated(
        prototypical(mlp(4, []), WAYS), residual_mlp([6], codes=3), extra=2, noise=3, codes=codes
    )
    params, state = learner.init(KEY, EPISODE)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        episode = Episode(batch(SHOTS, 0, np.float64), batch(4, 1, np.float64))
        random = np.random.default_rng(0)
        params = jax.tree.map(
            lambda leaf: jnp.asarray(np.asarray(leaf) + 0.3 * random.normal(size=leaf.shape)),
            params,
        )
        objective = episodic(learner, cross_entropy)

        def loss_on(episode, generator):
            return objective.loss({**params, "generator": generator}, state, episode, KEY)[0]

        loss = jax.jit(functools.partial(loss_on, episode))
        slope = jax.jit(jax.grad(loss_on, argnums=1))
        gradient = slope(episode, params["generator"])
        direction = jax.tree.map(
            lambda leaf: jnp.asarray(random.normal(size=leaf.shape)), params["generator"]
        )
        step = 1e-6
        moved = [
            jax.tree.map(
                lambda leaf, d, s=sign: leaf + s * step * d, params["generator"], direction
            )
            for sign in (1, -1)
        ]
        difference = (loss(moved[0]) - loss(moved[1])) / (2 * step)
        along = sum(
            jnp.vdot(a, b)
            for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
        )
        np.testing.assert_allclose(along, difference, rtol=1e-5)
        blank = episode._replace(support=episode.support._replace(y=-jnp.ones_like(SUPPORT.y)))
        nothing = slope(blank, params["generator"])
        assert all(not leaf.any() for leaf in jax.tree.leaves(nothing))


@pytest.mark.parametrize("normalization", ["transductive", "inductive", "running"])
def test_embedded_is_the_learner_with_the_embedding_as_its_model(normalization):
    network = projector(4, hidden=[6])  # which has batch normalization
    whole = prototypical(network, WAYS, normalization=normalization)
    parts = embedded(network, prototypical(identity(), WAYS), normalization=normalization)

    def answers():
        params, state = parts.init(KEY, EPISODE)
        for learner, own in ((whole, (params, state["model"])), (parts, (params, state))):
            adapted, _ = learner.adapt(*own, SUPPORT, KEY)
            yield learner.predict(*own, adapted, QUERY.x, QUERY.mask)

    (one, used), (other, used_too) = jax.jit(lambda: tuple(answers()))()
    np.testing.assert_allclose(one, other, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, used, used_too["model"])


def test_a_path_goes_through():
    learner = embedded(
        projector(4, hidden=[6]),  # whose statistics, inductive, are part of what is adapted
        hallucinated(fine_tuning(identity(), WAYS, steps=3), residual_mlp(codes=64), extra=1),
        normalization="inductive",
    )
    params, state = learner.init(KEY, EPISODE)
    path, _ = jax.jit(learner.path)(params, state, SUPPORT, KEY)
    adapted, _ = jax.jit(learner.adapt)(params, state, SUPPORT, KEY)
    assert jax.tree.leaves(adapted.statistics)
    jax.tree.map(
        lambda rows, last: np.testing.assert_allclose(rows[-1], last, atol=1e-6), path, adapted
    )


def test_prototype_matching_counts_classes_and_not_examples():
    """Without context, copies of a class's only example change matching, and not this."""
    few = Batch(SUPPORT.x[:WAYS], SUPPORT.y[:WAYS], SUPPORT.mask[:WAYS])
    more = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[:1], leaf[:1]]), few)
    answers = {}
    for make in (matching, prototype_matching):
        learner = make(identity(), WAYS)
        params = jax.tree.map(jnp.zeros_like, learner.init(KEY, EPISODE)[0])
        answers[make] = [predicted(learner, params, support=each) for each in (few, more)]
    units = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (QUERY.x, few.x)]
    for logits in answers[prototype_matching]:
        np.testing.assert_allclose(logits, units[0] @ units[1].T, atol=1e-5)
    apart = answers[matching][1] - answers[matching][0]
    np.testing.assert_allclose(apart[:, 0], np.log(3), atol=1e-5)
    np.testing.assert_allclose(apart[:, 1:], 0, atol=1e-5)


def test_class_statistics_are_numpys():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(40, SIZE)), np.arange(40) % 4 * 10
    means, factors = class_statistics(x, y)
    for place, label in enumerate((0, 10, 20, 30)):
        np.testing.assert_allclose(means[place], x[y == label].mean(axis=0), atol=1e-6)
        covariance = factors[place] @ factors[place].T
        np.testing.assert_allclose(covariance, np.cov(x[y == label].T), atol=1e-5)


def test_samples_have_the_calibrated_mean_and_covariance():
    base = class_statistics(QUERY.x, QUERY.y)
    kept = []
    listening = prototypical(identity(), WAYS)._replace(
        adapt=lambda params, state, support, key: (kept.append(support), {})
    )
    learner = calibrated(listening, base, extra=40_000, neighbors=2, spread=0.21)
    params, state = learner.init(KEY, EPISODE)
    learner.adapt(params, state, SUPPORT, KEY)
    n = SUPPORT.y.size
    samples = np.asarray(kept[0].x[n:]).reshape(-1, n, SIZE)
    for place in range(n):
        x = np.asarray(SUPPORT.x[place])
        near = np.argsort(((x - np.asarray(base.means)) ** 2).sum(axis=1))[:2]
        mean = (x + np.asarray(base.means)[near].sum(axis=0)) / 3
        covariance = np.mean([base.factors[c] @ base.factors[c].T for c in near], axis=0) + 0.21
        np.testing.assert_allclose(samples[:, place].mean(axis=0), mean, atol=0.05)
        np.testing.assert_allclose(np.cov(samples[:, place].T), covariance, atol=0.1)


def test_calibration_with_all_classes_and_one_covariance_is_linear_discriminant_analysis():
    """Least squares on many samples has the direction of LDA; here by ridge, on two classes."""
    random = np.random.default_rng(0)
    root = random.normal(size=(SIZE, SIZE)) / 4 + np.eye(SIZE)
    base = ClassStatistics(jnp.zeros((2, SIZE), jnp.float32), jnp.float32(np.stack([root, root])))
    support = Batch(jnp.float32(random.normal(size=(2, SIZE))), jnp.arange(2), jnp.ones(2))
    learner = calibrated(ridge(identity(), 2), base, extra=1_500, neighbors=2, spread=0.0)
    episode = Episode(support, support)
    params, state = learner.init(KEY, episode)
    params["head"]["log_penalty"] = jnp.float32(0)
    adapted, _ = learner.adapt(params, state, support, KEY)
    directions = jnp.concatenate([jnp.zeros((1, SIZE)), jnp.eye(SIZE)])
    logits, _ = learner.predict(params, state, adapted, directions)
    slope = np.asarray((logits[1:] - logits[:1]) @ jnp.array([-1.0, 1.0]))
    means = np.asarray(support.x, np.float64) / 3  # with two neighbors at zero
    expected = np.linalg.solve(root @ root.T, means[1] - means[0])
    cosine = slope @ expected / np.linalg.norm(slope) / np.linalg.norm(expected)
    assert cosine > 0.99


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: hallucinated(prototypical(identity(), 3), residual_mlp(), extra=-1), "extra.*-1"),
        (lambda: hallucinated(prototypical(identity(), 3), residual_mlp(), 1, noise=0), "noise.*0"),
        (
            lambda: hallucinated(from_scratch(identity(), 3), residual_mlp(), 1).init(KEY, EPISODE),
            "tuple",
        ),
        (lambda: hallucinated(prototypical(identity(), 3), residual_mlp(), 1, codes="no"), "no"),
        (
            lambda: hallucinated(prototypical(identity(), 3), projector(5), 1).init(KEY, EPISODE),
            "state",
        ),
        (lambda: hallucinated(prototypical(identity(), 3), mlp(2), 1).init(KEY, EPISODE), "64"),
        (lambda: residual_mlp(codes=5).init(KEY, SUPPORT.x), "5 codes"),
        (lambda: calibrated(prototypical(identity(), 3), BASE, extra=0), "extra.*0"),
        (
            lambda: calibrated(prototypical(identity(), 3), BASE, extra=1, neighbors=4),
            "neighbors.*4",
        ),
        (lambda: calibrated(prototypical(identity(), 3), BASE, extra=1, spread=-1.0), "-1.0"),
        (lambda: calibrated(prototypical(identity(), 3), SMALL, 1).init(KEY, EPISODE), "size 5"),
        (lambda: class_statistics([[1.0], [2.0], [3.0]], [0, 0, 1]), "Class 1"),
        (lambda: class_statistics([1.0, 2.0], [0, 0]), "n, d"),
        (lambda: power(0.0), "exponent.*0.0"),
        (lambda: isotropic(-1.0), "spread.*-1.0"),
    ],
)
def test_errors(make, says):
    with pytest.raises(ValueError, match=says):
        make()


BASE = class_statistics(np.eye(6, SIZE), np.arange(6) % 3)
SMALL = class_statistics(np.eye(6, 2), np.arange(6) % 3)


def test_images_need_an_embedding():
    learner = hallucinated(prototypical(conv4(), WAYS), residual_mlp(codes=64), extra=1)
    images = jax.tree.map(lambda leaf: leaf, EPISODE)
    support = images.support._replace(x=jnp.ones((SUPPORT.y.size, 16, 16, 1)))
    with pytest.raises(ValueError, match="embedded"):
        learner.init(KEY, images._replace(support=support))
