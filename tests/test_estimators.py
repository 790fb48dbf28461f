"""Estimators of the outer gradient against NumPy, on tasks whose gradients are known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import minimize

from jaxmeta.distributed.microbatches import vmap_tasks
from jaxmeta.distributed.parallel import by_shard_map
from jaxmeta.gradients import (
    Estimator,
    PerTask,
    aligned_mtl,
    balanced,
    cagrad,
    estimate,
    fixed_weights,
    imtl_g,
    mean,
    mgda,
    nash_mtl,
    pcgrad,
    random_weights,
    reduce_reports,
    task_losses,
    worst_case,
)
from jaxmeta.types import Objective, Report

TASKS, KEY = 6, jax.random.key(3)
RANDOM = np.random.default_rng(0)
# Quadratics h (theta - c)^2 / 2 over two leaves of parameters, whose gradients conflict.
PARAMS = {"a": RANDOM.normal(size=3), "b": RANDOM.normal(size=(2, 1))}
CENTERS = {k: RANDOM.normal(size=(TASKS, *leaf.shape)) for k, leaf in PARAMS.items()}
CURVATURES = {k: RANDOM.uniform(0.5, 2.0, (TASKS, *leaf.shape)) for k, leaf in PARAMS.items()}
GRADIENTS = np.concatenate(
    [(CURVATURES[k] * (PARAMS[k] - CENTERS[k])).reshape(TASKS, -1) for k in "ab"], axis=1
)
LOSSES = sum(
    (CURVATURES[k] * (PARAMS[k] - CENTERS[k]) ** 2).reshape(TASKS, -1).sum(axis=1) / 2 for k in "ab"
)
ARGUMENTS = jax.tree.map(jnp.float32, (PARAMS, (), (CENTERS, CURVATURES)))
KEYS = jax.random.split(jax.random.key(1), TASKS)


def quadratic(params, state, task, key):
    terms = jax.tree.map(lambda p, c, h: jnp.sum(h * (p - c) ** 2) / 2, params, *task)
    return terms["a"] + terms["b"], Report(metrics={"a": terms["a"]}, statistics=terms)


OBJECTIVE = Objective(lambda key, task: (ARGUMENTS[0], ()), quadratic)


def by_numpy_pcgrad():
    """Algorithm 1 of the paper, in the order that the key says."""
    projected = []
    for own, key in zip(GRADIENTS, jax.random.split(KEY, TASKS), strict=True):
        g = own.copy()
        for other in GRADIENTS[np.asarray(jax.random.permutation(key, TASKS))]:
            if other is not own and not np.array_equal(other, own) and g @ other < 0:
                g -= g @ other / (other @ other) * other
        projected.append(g)
    assert not np.allclose(projected, GRADIENTS)
    return np.mean(projected, axis=0)


def by_scipy_cagrad(c):
    """The dual, solved over the simplex by sequential quadratic programming."""
    g0 = GRADIENTS.mean(axis=0)
    radius = c * np.linalg.norm(g0)

    def dual(w):
        return w @ GRADIENTS @ g0 + radius * np.linalg.norm(w @ GRADIENTS)

    simplex = {"type": "eq", "fun": lambda w: w.sum() - 1}
    best = minimize(
        dual, np.full(TASKS, 1 / TASKS), bounds=[(0, 1)] * TASKS, constraints=simplex, tol=1e-12
    )
    assert best.success
    direction = best.x @ GRADIENTS
    return (g0 + radius * direction / np.linalg.norm(direction)) / (1 + c**2)


GRAM = GRADIENTS @ GRADIENTS.T


def by_scipy_mgda():
    """The shortest vector in the convex hull."""
    simplex = {"type": "eq", "fun": lambda w: w.sum() - 1}
    even = np.full(TASKS, 1 / TASKS)
    best = minimize(
        lambda w: w @ GRAM @ w / 2, even, bounds=[(0, 1)] * TASKS, constraints=simplex, tol=1e-14
    )
    assert best.success
    return best.x @ GRADIENTS


def by_scipy_nash():
    """The bargaining problem in the logarithms of its coefficients."""

    def value(logs):
        a = np.exp(logs)
        return a @ GRAM @ a / 2 - logs.sum()

    def slope(logs):
        a = np.exp(logs)
        return a * (GRAM @ a) - 1

    a = np.exp(minimize(value, np.zeros(TASKS), jac=slope, tol=1e-14, method="BFGS").x)
    np.testing.assert_allclose(a * (GRAM @ a), 1, atol=1e-4)
    return a @ GRADIENTS


def by_singular_values_aligned():
    """Every singular value of the gradients replaced by the smallest."""
    left, values, right = np.linalg.svd(GRADIENTS, full_matrices=False)
    return (values.min() * left @ right).mean(axis=0)


def by_numpy_balanced():
    h = GRADIENTS / LOSSES[:, None]
    norms = np.linalg.norm(h, axis=1)
    return (norms.max() / norms) @ h / TASKS


def noise_like(tree, key):
    flat, unravel = jax.flatten_util.ravel_pytree(tree)
    return unravel(jax.random.normal(key, flat.shape))


def evolution(sigma):
    """Evolution strategies: two losses a task, and noise that is made again from its key."""

    def each(objective, params, state, tasks, keys, weights):
        def difference(params, task, key):
            noise = noise_like(params, key)
            shifted = (optax.tree.add_scale(params, s * sigma, noise) for s in (1, -1))
            up, down = (objective.loss(there, state, task, key)[0] for there in shifted)
            return (up - down) / (2 * sigma)

        _, reports = task_losses(objective, params, state, tasks, keys)
        slopes = vmap_tasks(difference)(params, tasks, keys)
        totals = reduce_reports(optax.tree.zeros_like(params), reports, weights)
        return totals, PerTask((slopes, keys), reports.carry)

    def combine(like, per_task, key):
        slopes, keys = per_task
        noise = jax.vmap(noise_like, (None, 0))(like, keys)
        return jax.tree.map(lambda leaf: jnp.tensordot(slopes, leaf, 1) / len(slopes), noise)

    return Estimator(each, combine)


def by_numpy_evolution():
    """The slope of a quadratic along the noise is exact."""
    noise = np.stack([flat(noise_like(ARGUMENTS[0], key)) for key in KEYS])
    return np.mean(np.sum(GRADIENTS * noise, axis=1)[:, None] * noise, axis=0)


CASES = {
    "mean": (mean(), lambda: GRADIENTS.mean(axis=0)),
    "pcgrad": (pcgrad(), by_numpy_pcgrad),
    "cagrad": (cagrad(0.5), lambda: by_scipy_cagrad(0.5)),
    "worst_case": (worst_case(), lambda: GRADIENTS[LOSSES.argmax()]),
    "mgda": (mgda(), by_scipy_mgda),
    "nash_mtl": (nash_mtl(), by_scipy_nash),
    "aligned_mtl": (aligned_mtl(), by_singular_values_aligned),
    "balanced": (balanced(), by_numpy_balanced),
    "fixed_weights": (
        fixed_weights(1 + np.arange(TASKS)),
        lambda: np.average(GRADIENTS, axis=0, weights=1 + np.arange(TASKS)),
    ),
    "random_weights": (
        random_weights(),
        lambda: np.asarray(jax.nn.softmax(jax.random.normal(KEY, TASKS))) @ GRADIENTS,
    ),
    "evolution": (evolution(0.1), by_numpy_evolution),
}


def flat(tree):
    return np.asarray(jax.flatten_util.ravel_pytree(tree)[0])


def assert_computed(estimator, expected, tolerance, **options):
    gradient, report = jax.jit(estimate(OBJECTIVE, estimator=estimator, **options))(
        *ARGUMENTS, KEYS, KEY
    )
    np.testing.assert_allclose(flat(gradient), expected, rtol=tolerance, atol=tolerance)
    assert report.statistics.keys() == {"a", "b"}
    np.testing.assert_allclose(report.metrics["loss"], LOSSES.mean(), rtol=1e-5)
    np.testing.assert_allclose(sum(report.statistics.values()), LOSSES.mean(), rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_estimators_are_those_of_numpy_in_chunks_and_on_devices_alike(name):
    estimator, by_hand = CASES[name]
    expected, tolerance = by_hand(), 1e-3 if name in ("cagrad", "mgda", "aligned_mtl") else 1e-4
    assert_computed(estimator, expected, tolerance, chunk=TASKS)
    assert_computed(estimator, expected, tolerance, chunk=4)
    assert_computed(estimator, expected, tolerance, spread=by_shard_map(jax.devices()))
    four = by_shard_map(jax.devices()[:4])
    assert_computed(estimator, expected, tolerance, chunk=1, spread=four)


def direction(estimator, gradients, losses, key=KEY):
    """What an estimator makes of gradients ``[k, P]``, by losses that are linear."""
    gradients, losses = (jnp.asarray(each, jnp.float32) for each in (gradients, losses))

    def linear(params, state, task, key):
        slope, value = task
        return params @ slope + value, Report()

    objective = Objective(lambda key, task: (jnp.zeros(gradients.shape[1]), ()), linear)
    keys = jax.random.split(jax.random.key(1), len(gradients))
    compute = jax.jit(estimate(objective, estimator=estimator))
    return np.asarray(compute(jnp.zeros(gradients.shape[1]), (), (gradients, losses), keys, key)[0])


CONFLICT = np.array([[1.0, 0.2, 0.0], [-0.5, 1.0, 0.3], [0.1, -0.4, 2.0]])


def test_imtl_has_equal_projections_and_coefficients_that_sum_to_one():
    d = direction(imtl_g(), CONFLICT, np.ones(3))
    projections = CONFLICT @ d / np.linalg.norm(CONFLICT, axis=1)
    np.testing.assert_allclose(projections, projections[0], rtol=1e-3)
    np.testing.assert_allclose(np.linalg.solve(CONFLICT.T, d).sum(), 1, rtol=1e-4)


def test_two_tasks_have_the_closed_forms():
    first, second = CONFLICT[:2]
    overlap = first @ second
    assert overlap < 0
    d = direction(mgda(), CONFLICT[:2], np.ones(2))
    np.testing.assert_allclose([d @ first, d @ second], d @ d, rtol=1e-3)  # an interior minimum
    expected = (1 - overlap / (first @ first)) * first + (1 - overlap / (second @ second)) * second
    np.testing.assert_allclose(
        direction(pcgrad(), CONFLICT[:2], np.ones(2)), expected / 2, rtol=1e-4
    )
    # Of two unit vectors of cosine c, Nash's coefficients are both 1 / sqrt(1 + c).
    unit = CONFLICT[:2] / np.linalg.norm(CONFLICT[:2], axis=1, keepdims=True)
    expected = unit.sum(axis=0) / np.sqrt(1 + unit[0] @ unit[1])
    np.testing.assert_allclose(direction(nash_mtl(), unit, np.ones(2)), expected, rtol=1e-4)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
@pytest.mark.parametrize("estimator", [nash_mtl(), balanced()], ids=["nash_mtl", "balanced"])
def test_the_scale_of_a_loss_does_not_matter_to(estimator, factor):
    scale = np.array([1.0, factor, 1.0])
    plain, scaled = (
        direction(estimator, CONFLICT * s[:, None], 2 * s) for s in (np.ones(3), scale)
    )
    cosine = plain @ scaled / (np.linalg.norm(plain) * np.linalg.norm(scaled))
    assert cosine > 1 - 1e-5
    equal = [direction(mean(), CONFLICT * s[:, None], 2 * s) for s in (np.ones(3), scale)]
    assert equal[0] @ equal[1] / np.prod(np.linalg.norm(equal, axis=1)) < 0.9


def test_aligned_gradients_have_one_length_and_do_not_conflict():
    # The direction is the mean of vectors B g with B g_i orthogonal: its square is k times theirs.
    d = direction(aligned_mtl(), CONFLICT, np.ones(3))
    least = np.linalg.svd(CONFLICT)[1].min()
    np.testing.assert_allclose(np.linalg.norm(d), least / np.sqrt(3), rtol=1e-3)


@pytest.mark.parametrize(
    "estimator", [mgda(), nash_mtl(), imtl_g(), aligned_mtl(), balanced(), cagrad(), pcgrad()]
)
def test_a_task_without_a_gradient_or_twice_the_same_gives_no_nan(estimator):
    for gradients in (np.zeros((3, 4)), np.ones((3, 4)), np.eye(3, 4) * [[1], [0], [1]]):
        assert np.isfinite(direction(estimator, gradients, np.ones(3))).all()


@pytest.mark.parametrize("spread", [1.0, 2.0])
def test_mgda_is_exact_and_harms_no_task_however_long_the_gradients(spread):
    gradients = np.random.default_rng(1).normal(size=(6, 8))
    gradients *= 10 ** np.linspace(-spread, spread, 6)[:, None]
    d = direction(mgda(), gradients, np.ones(6))
    gram = gradients @ gradients.T
    simplex = {"type": "eq", "fun": lambda w: w.sum() - 1}
    starts = [np.eye(6)[i] * 0.9 + 0.1 / 6 for i in range(6)]
    least = min(
        minimize(lambda w: w @ gram @ w, w, bounds=[(0, 1)] * 6, constraints=simplex, tol=1e-16).fun
        for w in starts
    )
    assert d @ d <= 1.02 * least
    assert (gradients @ d >= 0.98 * (d @ d)).all()


def test_opposite_gradients_and_a_loss_of_zero_give_no_large_numbers():
    opposite = np.array([[1.0, 0.0], [-1.0, 0.0]])
    for estimator in (nash_mtl(), mgda(), pcgrad(), aligned_mtl()):
        assert np.abs(direction(estimator, opposite, np.ones(2))).max() < 1e-2
    learned = direction(balanced(), [[0.0, 0.0], [0.0, 1.0]], [0.0, 1.0])
    np.testing.assert_allclose(learned, [0, 0.5], atol=1e-5)
    assert np.isfinite(direction(balanced(), [[1e-8, 0.0], [0.0, 1.0]], [0.0, 1.0])).all()


def test_without_conflict_pcgrad_is_the_mean_and_so_is_cagrad_of_radius_zero():
    agreeing = np.abs(CONFLICT)
    np.testing.assert_allclose(
        direction(pcgrad(), agreeing, np.ones(3)), agreeing.mean(axis=0), rtol=1e-5
    )
    np.testing.assert_allclose(
        direction(cagrad(0.0), CONFLICT, np.ones(3)), CONFLICT.mean(axis=0), rtol=1e-5
    )


def test_cagrad_helps_the_worst_of_two_tasks_most_within_its_ball():
    gradients, c = CONFLICT[:2, :2], 0.4
    mean_gradient = gradients.mean(axis=0)
    d = (1 + c**2) * direction(cagrad(c), gradients, np.ones(2))
    radius = c * np.linalg.norm(mean_gradient)
    assert np.linalg.norm(d - mean_gradient) <= radius * 1.001
    angles = np.linspace(0, 2 * np.pi, 3_000)
    ball = mean_gradient + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert (gradients @ d).min() >= (gradients @ ball.T).min(axis=0).max() - 1e-3


def test_only_shared_parts_are_weighed():
    worst = flat({"a": GRADIENTS[:, :3], "b": GRADIENTS[:, 3:]}["a"][LOSSES.argmax()])
    gradient, _ = jax.jit(estimate(OBJECTIVE, estimator=worst_case(shared=["a"])))(
        *ARGUMENTS, KEYS, KEY
    )
    np.testing.assert_allclose(gradient["a"], worst, rtol=1e-4)
    np.testing.assert_allclose(flat(gradient["b"]), GRADIENTS[:, 3:].mean(axis=0), rtol=1e-4)
    # Conflicts of private parts do not count: the shared ones alone make the Gram matrix.
    alone = direction(pcgrad(), GRADIENTS[:, :3], LOSSES)
    gradient, _ = jax.jit(estimate(OBJECTIVE, estimator=pcgrad(shared=["a"])))(
        *ARGUMENTS, KEYS, KEY
    )
    np.testing.assert_allclose(gradient["a"], alone, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="'c': give parts of a, b"):
        estimate(OBJECTIVE, estimator=pcgrad(shared=["c"]))(*ARGUMENTS, KEYS, KEY)
    for wrong in ("model", []):
        with pytest.raises(ValueError, match="give a list of parts"):
            pcgrad(shared=wrong)


def test_weights_are_one_for_each_task():
    with pytest.raises(ValueError, match="2 weights and a step has 6 tasks"):
        estimate(OBJECTIVE, estimator=fixed_weights([1.0, 2.0]))(*ARGUMENTS, KEYS, KEY)
    with pytest.raises(ValueError, match="-1"):
        fixed_weights([1.0, -1.0])
