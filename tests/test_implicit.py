"""Implicit gradients against the exact ones of quadratics, and what they cost in memory."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta.inner import implicit, minimize, unroll
from jaxmeta.learners import gradient_learner, imaml
from jaxmeta.losses import cross_entropy, squared_error
from jaxmeta.nn import from_functions, mlp
from jaxmeta.types import Batch, Episode

KEY = jax.random.key(0)
CURVATURE = jnp.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 1.5]])
START = jnp.array([1.0, -2.0, 0.5])
CENTER = jnp.array([0.3, 0.7, -1.0])
PENALTY = 4.0


def adapt(start, center, **arguments):
    def loss(theta, key):
        return 0.5 * (theta - center) @ CURVATURE @ (theta - center)

    loop = implicit(optax.sgd(0.1), 200, PENALTY, **arguments)
    return loop.run(loss, start, (), KEY)[0]


def exact(start, center):
    """The minimum, and what the gradient of its squared norm is by the start and the center."""
    system = np.linalg.inv(np.asarray(CURVATURE) + PENALTY * np.eye(3))
    minimum = system @ (np.asarray(CURVATURE) @ center + PENALTY * start)
    return minimum, 2 * PENALTY * system @ minimum, 2 * np.asarray(CURVATURE) @ system @ minimum


@pytest.mark.parametrize(
    "arguments",
    [{"solver_steps": 3}, {"solver": "neumann", "solver_steps": 60}],
    ids=["conjugate_gradient", "neumann"],
)
def test_gradient_of_a_quadratic_is_the_exact_implicit_gradient(arguments):
    minimum, by_start, by_center = exact(START, CENTER)
    np.testing.assert_allclose(adapt(START, CENTER, **arguments), minimum, rtol=1e-5)
    gradients = jax.jit(
        jax.grad(lambda s, c: jnp.sum(adapt(s, c, **arguments) ** 2), argnums=(0, 1))
    )(START, CENTER)
    np.testing.assert_allclose(gradients[0], by_start, rtol=1e-4)
    np.testing.assert_allclose(gradients[1], by_center, rtol=1e-4)


@pytest.mark.parametrize(("solver", "steps"), [("conjugate_gradient", 3), ("neumann", 60)])
def test_imaml_of_a_linear_model_is_ridge_regression_towards_its_start(solver, steps):
    """And its outer gradient is that of the closed form."""
    x, y = jax.random.normal(KEY, (6, 3)) / 2, jnp.arange(6.0)[:, None] / 3
    query = jax.random.normal(jax.random.key(1), (4, 3))
    linear = from_functions(lambda key, x: jnp.zeros((3, 1)), lambda theta, x: x @ theta)
    learner = imaml(
        linear,
        steps=400,
        learning_rate=0.1,
        penalty=PENALTY,
        solver=solver,
        solver_steps=steps,
        damping=0.0,
        loss=squared_error,
    )

    def ours(theta):
        params = {"model": theta, "hyper": ()}
        adapted, _ = learner.adapt(params, {}, Batch(x, y, jnp.ones(6)), KEY)
        return jnp.sum(learner.predict(params, {}, adapted, query)[0] ** 2)

    def closed_form(theta):
        curvature = 2 / 6 * x.T @ x
        system = curvature + PENALTY * jnp.eye(3)
        return jnp.sum((query @ jnp.linalg.solve(system, 2 / 6 * x.T @ y + PENALTY * theta)) ** 2)

    results = (jax.jit(jax.value_and_grad(f))(START[:, None]) for f in (ours, closed_form))
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3)


def test_one_term_of_the_series_is_one_term():
    _, by_start, _ = exact(START, CENTER)
    minimum = exact(START, CENTER)[0]

    @jax.jit
    @jax.grad
    def gradient(start):
        return jnp.sum(adapt(start, CENTER, solver="neumann", solver_steps=1) ** 2)

    by_hand = 2 * (np.eye(3) - np.asarray(CURVATURE) / PENALTY) @ minimum
    np.testing.assert_allclose(gradient(START), by_hand, rtol=1e-4)
    assert np.abs(by_hand - by_start).max() > 0.01


@pytest.mark.parametrize(("solver", "steps"), [("conjugate_gradient", 3), ("neumann", 60)])
@pytest.mark.parametrize("damping", [3.0, 1e6])
def test_damping_adds_to_the_penalty_of_the_system_alone(damping, solver, steps):
    """And when it is large, the gradient is that of first-order MAML: the query loss's own."""

    def square(start, center):
        arguments = {"solver": solver, "solver_steps": steps, "damping": damping}
        return jnp.sum(adapt(start, center, **arguments) ** 2)

    minimum, *_ = exact(START, CENTER)
    by_start, by_center = jax.jit(jax.grad(square, argnums=(0, 1)))(START, CENTER)
    np.testing.assert_allclose(adapt(START, CENTER, damping=damping), minimum, rtol=1e-5)
    ratio = np.asarray(CURVATURE) / (PENALTY + damping)
    solved = np.linalg.solve(np.eye(3) + ratio, 2 * minimum)
    np.testing.assert_allclose(by_start, solved, rtol=1e-4)
    np.testing.assert_allclose(by_center, ratio @ solved, rtol=1e-4)


def test_it_runs_vmapped():
    starts = jnp.stack([START, 2 * START])
    together = jax.jit(jax.vmap(jax.grad(lambda s: jnp.sum(adapt(s, CENTER) ** 2))))(starts)
    apart = jnp.stack([exact(np.asarray(s), CENTER)[1] for s in starts])
    np.testing.assert_allclose(together, apart, rtol=1e-3)


def temporary_bytes(loop):
    """What the compiled meta-gradient of a small network holds."""
    y = jnp.repeat(jnp.arange(3), 10)
    batch = Batch(jax.random.normal(KEY, (30, 8)), y, jnp.ones(30))
    learner = gradient_learner(mlp(3, (64,)), loop, 3)
    params, state = jax.eval_shape(learner.init, KEY, Episode(batch, batch))

    def loss(params):
        adapted, _ = learner.adapt(params, state, batch, KEY)
        outputs, _ = learner.predict(params, state, adapted, batch.x)
        return cross_entropy(outputs, batch.y, batch.mask)

    compiled = jax.jit(jax.grad(loss)).lower(params).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_memory_is_flat_in_the_inner_steps():
    few, many = (temporary_bytes(implicit(optax.sgd(0.1), steps, 1.0)) for steps in (5, 500))
    # But for the metrics of each step, two numbers.
    assert many - few <= 500 * 2 * 8
    unrolled = [temporary_bytes(unroll(optax.sgd(0.1), steps)) for steps in (5, 500)]
    assert unrolled[1] > 10 * many


def test_minimize_finds_the_minimum_and_no_derivative_goes_through():
    def loss(theta, key):
        return 0.5 * (theta - CENTER) @ CURVATURE @ (theta - CENTER)

    @jax.jit
    @jax.jacrev
    def gradient(start):
        return minimize(20).run(loss, start, (), KEY)

    @jax.jit
    def run(start):
        return minimize(20).run(loss, start, (), KEY)

    found, metrics = run(START)
    np.testing.assert_allclose(found, CENTER, rtol=1e-4)
    assert metrics["support_loss"].shape == metrics["gradient_norm"].shape == (20,)
    jax.tree.map(lambda leaf: np.testing.assert_array_equal(leaf, 0), gradient(START))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: implicit(optax.sgd(0.1), 5, 0.0), "penalty must be positive.*0.0"),
        (lambda: implicit(optax.sgd(0.1), -1, 1.0), "steps.*-1"),
        (lambda: implicit(optax.sgd(0.1), 5, 1.0, damping=-1.0), "damping must be 0 or more.*-1.0"),
        (
            lambda: implicit(optax.sgd(0.1), 5, 1.0, solver="lu"),
            "'conjugate_gradient' or 'neumann'.*'lu'",
        ),
        (lambda: minimize(-1), "steps.*-1"),
    ],
)
def test_wrong_arguments_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()
