"""The inner loop against closed forms and against itself, computed another way."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from jaxmeta.inner import (
    InnerLoop,
    PerStep,
    learning_rates,
    merge,
    partition,
    per_step,
    sgd,
    unroll,
)

KEY = jax.random.key(0)
CURVATURE = jnp.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 1.5]])
START = jnp.array([1.0, -2.0, 0.5])


def quadratic(theta, key):
    """Its gradient is ``CURVATURE @ theta``: every step multiplies by ``I - rate * CURVATURE``."""
    return 0.5 * theta @ CURVATURE @ theta


def adapt(loop, theta, hyper=None, loss=quadratic):
    hyper = loop.init(KEY, theta) if hyper is None else hyper
    return loop.run(loss, theta, hyper, KEY)[0]


def test_adaptation_and_meta_gradient_of_a_quadratic_are_its_closed_form():
    steps, rate = 4, 0.1
    loop = unroll(sgd(rate), steps)
    step = np.eye(3) - rate * np.asarray(CURVATURE)
    power = np.linalg.matrix_power(step, steps)
    np.testing.assert_allclose(adapt(loop, START), power @ START, rtol=1e-5)
    gradient = jax.grad(lambda theta: jnp.sum(adapt(loop, theta) ** 2))(START)
    np.testing.assert_allclose(gradient, 2 * power.T @ power @ START, rtol=1e-5)


def test_first_order_drops_second_derivatives_only():
    loop = unroll(sgd(0.1), 4, first_order=True)
    gradient = jax.grad(lambda theta: jnp.sum(adapt(loop, theta) ** 2))(START)
    second = jax.grad(lambda theta: jnp.sum(adapt(unroll(sgd(0.1), 4), theta) ** 2))(START)
    np.testing.assert_allclose(gradient, 2 * adapt(loop, START), rtol=1e-5)
    assert np.abs(gradient - second).max() > 0.1
    # The rate still learns: d/da of theta - a g, with g a constant.
    learned = unroll(sgd, 1, hyper=learning_rates(0.1), first_order=True)
    by_rate = jax.grad(lambda rate: jnp.sum(adapt(learned, START, rate)))(jnp.float32(0.1))
    np.testing.assert_allclose(by_rate, -jnp.sum(CURVATURE @ START), rtol=1e-5)


@pytest.mark.parametrize(
    "optimiser", [optax.sgd(0.1, momentum=0.9), optax.adam(0.05, eps_root=1e-8)]
)
def test_second_order_agrees_with_finite_differences_in_float64(optimiser):
    with jax.enable_x64(True):
        target = jnp.asarray([0.3, -0.1, 0.8])

        def loss(theta, key):
            return jnp.sum(jnp.cosh(theta - target)) + 0.5 * theta @ theta

        loop = unroll(optimiser, 3)

        def outer(theta):
            return jnp.sum(jnp.sin(adapt(loop, theta, loss=loss)))

        theta = jnp.asarray([1.0, -2.0, 0.5])
        assert theta.dtype == jnp.float64
        check_grads(outer, (theta,), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


def test_rematerialised_gradient_is_the_same():
    def outer(loop):
        return jax.grad(lambda theta: jnp.sum(adapt(loop, theta) ** 3))(START)

    plain, again = (
        outer(unroll(optax.sgd(0.1, momentum=0.9), 5, rematerialise=flag)) for flag in (False, True)
    )
    np.testing.assert_allclose(plain, again, rtol=1e-6)


@pytest.mark.parametrize("granularity", ["loop", "leaf", "parameter"])
@pytest.mark.parametrize("steps", [None, 3])
def test_equal_rates_are_one_rate_at_any_granularity(granularity, steps):
    start = {"a": START, "b": jnp.ones((2, 2))}

    def loss(leaves, key):
        return quadratic(leaves["a"], key) + jnp.sum(leaves["b"] ** 4)

    rates = learning_rates(0.1, granularity)
    loop = unroll(sgd, 3, hyper=rates if steps is None else per_step(rates, steps))
    hyper = loop.init(KEY, start)
    shapes = {leaf.shape for leaf in jax.tree.leaves(hyper)}
    lead = () if steps is None else (steps,)
    wanted = {"loop": {()}, "leaf": {()}, "parameter": {(3,), (2, 2)}}[granularity]
    assert shapes == {lead + shape for shape in wanted}
    plain = adapt(unroll(sgd(0.1), 3), start, loss=loss)
    learned = adapt(loop, start, loss=loss)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), learned, plain)


def test_each_step_uses_its_own_rate_and_later_ones_the_last():
    rates = jnp.array([0.1, 0.2])
    loop = unroll(sgd, 3, hyper=lambda key, fast: PerStep(rates))
    by_hand = START
    for rate in (0.1, 0.2, 0.2):
        by_hand = by_hand - rate * CURVATURE @ by_hand
    np.testing.assert_allclose(adapt(loop, START), by_hand, rtol=1e-6)
    by_rate = jax.grad(lambda rows: jnp.sum(adapt(loop, START, PerStep(rows))))(rates)
    assert np.all(np.abs(by_rate) > 1e-3)


def test_any_hyperparameter_of_any_transformation_learns():
    def optimiser(hyper):
        return optax.sgd(hyper["rate"], momentum=hyper["momentum"])

    loop = unroll(optimiser, 3, hyper=lambda key, fast: {"rate": 0.1, "momentum": 0.5})
    fixed = unroll(optax.sgd(0.1, momentum=0.5), 3)
    hyper = {"rate": jnp.float32(0.1), "momentum": jnp.float32(0.5)}
    np.testing.assert_allclose(adapt(loop, START, hyper), adapt(fixed, START), rtol=1e-6)
    gradient = jax.grad(lambda hyper: quadratic(adapt(loop, START, hyper), KEY))(hyper)
    for name, step in (("rate", 1e-2), ("momentum", 1e-2)):
        ends = [
            quadratic(adapt(loop, START, {**hyper, name: hyper[name] + sign * step}), KEY)
            for sign in (1, -1)
        ]
        np.testing.assert_allclose(gradient[name], (ends[0] - ends[1]) / (2 * step), rtol=2e-2)


def test_metrics_are_of_each_step_before_it_is_taken():
    _, metrics = unroll(sgd(0.1), 3).run(quadratic, START, (), KEY)
    theta, values, norms = START, [], []
    for _ in range(3):
        values.append(quadratic(theta, KEY))
        norms.append(jnp.linalg.norm(CURVATURE @ theta))
        theta = theta - 0.1 * CURVATURE @ theta
    np.testing.assert_allclose(metrics["support_loss"], values, rtol=1e-5)
    np.testing.assert_allclose(metrics["gradient_norm"], norms, rtol=1e-5)


def test_meta_gradient_at_a_minimum_is_finite():
    gradient = jax.grad(lambda theta: jnp.sum(adapt(unroll(sgd(0.1), 2), theta)))(jnp.zeros(3))
    assert np.all(np.isfinite(gradient))


def test_no_steps_leave_the_leaves_alone():
    np.testing.assert_array_equal(adapt(unroll(sgd(0.1), 0), START), START)


def test_steps_draw_keys_of_their_own():
    def noisy(theta, key):
        return jnp.sum(theta * jax.random.normal(key, theta.shape))

    once, twice = (adapt(unroll(sgd(1.0), n), START, loss=noisy) for n in (1, 2))
    first, second = START - once, once - twice
    assert np.abs(first - second).max() > 0.1


def test_partition_and_merge_are_inverse():
    params = {"block0": {"kernel": jnp.ones(2)}, "head": {"kernel": jnp.zeros(3)}}
    fast, slow = partition(params, lambda name: name.startswith("head/"))
    assert fast["block0"]["kernel"] is None
    assert slow["head"]["kernel"] is None
    jax.tree.map(np.testing.assert_array_equal, merge(fast, slow), params)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: unroll(sgd(0.1), -1), ValueError, "steps is -1"),
        (lambda: unroll(sgd(0.1), 1, hyper=learning_rates(0.1)), ValueError, "hyper is given"),
        (lambda: learning_rates(0.1, "layer"), ValueError, "granularity is 'layer'"),
        (lambda: partition({"a": START}, lambda name: False), ValueError, "chose none of a"),
        (
            lambda: unroll(sgd(0.1), 1).init(KEY, {"a": {"count": jnp.arange(3)}}),
            TypeError,
            "'a/count' is of type int32",
        ),
    ],
)
def test_errors_name_the_value_and_the_remedy(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_a_loop_of_ones_own_is_two_functions():
    """Gradient descent until a tolerance is met, which a fixed number of steps cannot say."""

    def run(loss, fast, hyper, key):
        def unfinished(carry):
            theta, count = carry
            return (jnp.linalg.norm(jax.grad(loss)(theta, key)) > hyper) & (count < 500)

        def step(carry):
            theta, count = carry
            return theta - 0.3 * jax.grad(loss)(theta, key), count + 1

        theta, count = jax.lax.while_loop(unfinished, step, (fast, jnp.int32(0)))
        return theta, {"steps": count}

    loop = InnerLoop(lambda key, fast: jnp.float32(1e-3), run)
    assert np.linalg.norm(CURVATURE @ adapt(loop, START)) <= 1e-3
