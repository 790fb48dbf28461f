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
    cagrad,
    estimate,
    mean,
    pcgrad,
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
    expected, tolerance = by_hand(), 1e-3 if name == "cagrad" else 1e-4
    assert_computed(estimator, expected, tolerance, chunk=TASKS)
    assert_computed(estimator, expected, tolerance, chunk=4)
    assert_computed(estimator, expected, tolerance, spread=by_shard_map(jax.devices()))
    four = by_shard_map(jax.devices()[:4])
    assert_computed(estimator, expected, tolerance, chunk=1, spread=four)
