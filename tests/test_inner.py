"""The inner loop against closed forms and against itself, computed another way."""

import functools

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
    mixed_mode,
    partition,
    per_step,
    sgd,
    unroll,
)

KEY = jax.random.key(0)
CURVATURE = jnp.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 1.5]])
START = jnp.array([1.0, -2.0, 0.5])
RATES = ("loop", "leaf", "parameter")


def quadratic(theta, key):
    """Its gradient is ``CURVATURE @ theta``: every step multiplies by ``I - rate * CURVATURE``."""
    return 0.5 * theta @ CURVATURE @ theta


@functools.partial(jax.jit, static_argnames=("loop", "loss"))
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
    "optimizer", [optax.sgd(0.1, momentum=0.9), optax.adam(0.05, eps_root=1e-8)]
)
def test_second_order_agrees_with_finite_differences_in_float64(optimizer):
    with jax.enable_x64(True):
        target = jnp.asarray([0.3, -0.1, 0.8])

        def loss(theta, key):
            return jnp.sum(jnp.cosh(theta - target)) + 0.5 * theta @ theta

        loop = unroll(optimizer, 3)

        def outer(theta):
            return jnp.sum(jnp.sin(adapt(loop, theta, loss=loss)))

        theta = jnp.asarray([1.0, -2.0, 0.5])
        assert theta.dtype == jnp.float64
        check_grads(outer, (theta,), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


MODES = ("mixed", "reverse", "rematerialized")
FAST = {
    "kernel": 0.5 * jax.random.normal(jax.random.key(1), (3, 4)),
    "bias": jnp.array([0.1, -0.2, 0.3, 0.0]),
}
# What the outer loop also learns from, or is mapped over: it reaches the loss by closure alone.
AROUND = {
    "slow": 0.5 * jax.random.normal(jax.random.key(2), (4,)),
    "x": jax.random.normal(jax.random.key(3), (2, 5, 3)),
    "y": jax.random.normal(jax.random.key(4), (2, 5)),
}
TASKS = jax.random.split(jax.random.key(5), 2)


def network(fast, around, keep):
    hidden = jnp.tanh(around["x"] @ fast["kernel"] + fast["bias"][None])
    return jnp.sum(keep * hidden * around["slow"][None] ** 2, axis=1)


def adapted_loss(loop, fast, hyper, around, key):
    """The outer loss of one task: a dropout in the inner one, of another mask at every step."""

    def loss(fast, key):
        keep = jax.random.bernoulli(key, 0.7, (5, 4)).astype(jnp.float32)
        return jnp.mean((network(fast, around, keep) - around["y"]) ** 2)

    adapted, metrics = loop.run(loss, fast, hyper, key)
    answers = network(adapted, around, jnp.ones((5, 4)))
    return jnp.mean(jnp.sin(answers - around["y"])), metrics


def over_tasks(loop, fast, hyper, around):
    axes = (None, None, {"slow": None, "x": 0, "y": 0}, 0)
    losses, metrics = jax.vmap(lambda *task: adapted_loss(loop, *task), in_axes=axes, out_axes=0)(
        fast, hyper, around, TASKS
    )
    return jnp.mean(losses), metrics


def outer_gradients(loop, hyper):
    """The loss, the metrics, and the gradients by all that they depend on."""
    gradient = jax.value_and_grad(lambda *a: over_tasks(loop, *a), (0, 1, 2), has_aux=True)
    return jax.jit(gradient)(FAST, hyper, AROUND)


def assert_close(ours, theirs, rtol=1e-4, atol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol, atol), ours, theirs)


OPTIMIZERS = {
    "loop": (sgd, learning_rates(0.3, "loop")),
    **{
        f"{granularity} per step": (sgd, per_step(learning_rates(0.3, granularity), 3))
        for granularity in ("leaf", "parameter")
    },
    "adam": (optax.adam(0.05, eps_root=1e-6), None),
    "momentum": (
        lambda hyper: optax.sgd(hyper["rate"], momentum=hyper["momentum"]),
        lambda key, fast: {"rate": jnp.float32(0.2), "momentum": jnp.float32(0.5)},
    ),
}


@pytest.mark.parametrize(("optimizer", "hyper"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_outer_gradients_are_the_same_in_every_mode(optimizer, hyper):
    loops = [unroll(optimizer, 3, hyper=hyper, differentiation=mode) for mode in MODES]
    start = loops[0].init(KEY, FAST)
    mixed, reverse, rematerialized = (outer_gradients(loop, start) for loop in loops)
    assert_close(mixed, reverse)
    assert_close(rematerialized, reverse)
    # None of them is zero, where equality would say nothing.
    assert all(np.abs(leaf).max() > 1e-4 for leaf in jax.tree.leaves(reverse[1]))


def test_mapped_over_tasks_is_one_task_after_another():
    loop = unroll(sgd(0.3), 3)
    gradient = jax.jit(jax.grad(lambda *a: adapted_loss(loop, *a)[0], (0, 2)))
    alone = [
        gradient(FAST, (), {**AROUND, "x": AROUND["x"][i], "y": AROUND["y"][i]}, TASKS[i])
        for i in range(2)
    ]
    _, (by_fast, _, by_around) = outer_gradients(loop, ())
    # The mean over tasks halves each; what is mapped over, each task has for itself.
    shared = jax.tree.map(lambda a, b: (a + b) / 2, *((f, a["slow"]) for f, a in alone))
    assert_close((by_fast, by_around["slow"]), shared)
    own = jax.tree.map(lambda *rows: jnp.stack(rows) / 2, *(a["x"] for _, a in alone))
    assert_close(by_around["x"], own)


def test_outer_training_in_a_scan_is_the_same_in_every_mode():
    def train(mode):
        loop = unroll(sgd, 2, hyper=learning_rates(0.3, "leaf"), differentiation=mode)

        def step(learned, key):
            def loss(learned):
                around = {"slow": learned["slow"], "x": AROUND["x"][0], "y": AROUND["y"][0]}
                return adapted_loss(loop, learned["fast"], learned["hyper"], around, key)[0]

            value, gradient = jax.value_and_grad(loss)(learned)
            return jax.tree.map(lambda a, g: a - 0.1 * g, learned, gradient), value

        start = {"fast": FAST, "hyper": loop.init(KEY, FAST), "slow": AROUND["slow"]}
        return jax.jit(lambda start: jax.lax.scan(step, start, jax.random.split(KEY, 4)))(start)

    mixed, reverse, rematerialized = (train(mode) for mode in MODES)
    assert_close(mixed, reverse)
    assert_close(rematerialized, reverse)


def test_derivatives_of_the_outer_gradient_are_the_same_in_reverse():
    """Third derivatives of the inner loss, which learning to meta-learn would need."""
    around = {"slow": AROUND["slow"], "x": AROUND["x"][0], "y": AROUND["y"][0]}

    def third(mode):
        loop = unroll(sgd(0.3), 2, differentiation=mode)

        def gradient(fast, slow):
            return jax.grad(
                lambda *a: adapted_loss(loop, a[0], (), {**around, "slow": a[1]}, KEY)[0], (0, 1)
            )(fast, slow)

        def of_gradient(*arguments):
            return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(gradient(*arguments)))

        return jax.jit(jax.grad(of_gradient, (0, 1)))(FAST, AROUND["slow"])

    assert_close(third("mixed"), third("reverse"))


def test_mixed_mode_takes_losses_that_close_over_keys_and_integers():
    """They have no derivative, but they are arguments of what is differentiated all the same."""

    def outer(mode, fast, key, counts):
        def loss(theta, _):
            noise = jax.random.normal(key, theta.shape)
            return jnp.sum(jnp.cosh(theta - noise) * counts.astype(jnp.float32))

        return jnp.sum(jnp.sin(adapt(unroll(sgd(0.1), 2, differentiation=mode), fast, loss=loss)))

    def gradients(mode):
        gradient = jax.grad(lambda *a: outer(mode, *a))
        return jax.jit(jax.vmap(gradient, (None, 0, None)))(START, TASKS, jnp.array([1, 0, 2]))

    assert_close(gradients("mixed"), gradients("reverse"))


def test_mixed_mode_takes_a_loss_wider_than_its_parameters():
    """As of a model in bfloat16 whose loss is computed in float32."""

    def gradients(mode):
        def outer(theta, target):
            loop = unroll(sgd(jnp.bfloat16(0.125)), 2, differentiation=mode)
            adapted = adapt(
                loop, theta, loss=lambda t, key: jnp.sum((t.astype(jnp.float32) - target) ** 2)
            )
            return jnp.sum(adapted.astype(jnp.float32) ** 2)

        return jax.jit(jax.grad(outer, (0, 1)))(START.astype(jnp.bfloat16), jnp.ones(3))

    mixed, reverse = gradients("mixed"), gradients("reverse")
    for a, b in zip(mixed, reverse, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a.astype(jnp.float32), b.astype(jnp.float32), rtol=2e-2)


def outcome_of_mixed_mode(used):
    """Of a network's value and gradient, a number that depends on these of them."""
    x = jnp.linspace(-1, 1, 90).reshape(30, 3)

    def loss(fast, key):
        return jnp.mean((jnp.tanh(x @ fast["in"]) @ fast["out"] - x) ** 2)

    def outcome(fast, value_and_gradient):
        value, gradient = value_and_gradient(fast, KEY)
        parts = {"value": value, **gradient}
        return sum(jnp.sum(jnp.sin(parts[name])) for name in used)

    fast = {"in": jnp.linspace(-1, 2, 15).reshape(3, 5), "out": jnp.ones((5, 3))}
    return fast, loss, outcome


@pytest.mark.parametrize("used", [["value"], ["in"], ["value", "out"], ["in", "out"]])
def test_mixed_mode_sends_back_what_is_used(used):
    fast, loss, outcome = outcome_of_mixed_mode(used)
    ours, theirs = (
        jax.jit(jax.grad(lambda fast, make=make: outcome(fast, make(fast))))(fast)
        for make in (lambda fast: mixed_mode(loss, fast, KEY), lambda _: jax.value_and_grad(loss))
    )
    assert_close(ours, theirs)


def test_a_value_that_is_not_used_costs_no_second_gradient():
    def products(used):
        fast, loss, outcome = outcome_of_mixed_mode(used)
        gradient = jax.grad(lambda fast: outcome(fast, mixed_mode(loss, fast, KEY)))
        return jax.jit(gradient).lower(fast).as_text().count("dot_general")

    assert products(["in", "out"]) < products(["in", "out", "value"])


def test_mixed_mode_keeps_of_a_step_no_more_than_parameters_and_gradients():
    """By the compiler's account: how much more memory twenty more steps take, for each of them."""
    fast = {"in": jnp.ones((8, 8)), "out": jnp.ones((8, 8))}
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(fast))
    x = jax.ShapeDtypeStruct((256, 8), jnp.float32)

    def bytes_per_step(mode):
        def outer(fast, x, steps):
            def loss(fast, key):
                return jnp.mean((jnp.tanh(x @ fast["in"]) @ fast["out"]) ** 2)

            loop = unroll(sgd(0.1), steps, differentiation=mode)
            return loss(loop.run(loss, fast, (), KEY)[0], KEY)

        few, many = (
            jax.jit(jax.grad(outer), static_argnums=2)
            .lower(fast, x, steps)
            .compile()
            .memory_analysis()
            .temp_size_in_bytes
            for steps in (20, 40)
        )
        return (many - few) / 20

    assert bytes_per_step("mixed") <= 4 * size
    assert bytes_per_step("rematerialized") <= 4 * size
    assert bytes_per_step("reverse") >= 12 * size


@pytest.mark.parametrize("granularity", RATES)
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


def test_the_hypergradient_of_a_rate_is_its_closed_form():
    h, start, steps = 0.8, 1.5, 4
    loop = unroll(optax.sgd, steps, hyper=lambda key, fast: jnp.float32(0.3))

    def parabola(theta, key=None):
        return h * theta**2 / 2

    @jax.jit
    @jax.grad
    def slope(rate):
        return parabola(loop.run(parabola, jnp.float32(start), rate, jax.random.key(0))[0])

    for rate in (0.3, 1 / h):
        expected = -steps * h**2 * (1 - rate * h) ** (2 * steps - 1) * start**2
        np.testing.assert_allclose(slope(jnp.float32(rate)), expected, rtol=1e-5, atol=1e-7)


def test_any_hyperparameter_of_any_transformation_learns():
    def optimizer(hyper):
        return optax.sgd(hyper["rate"], momentum=hyper["momentum"])

    loop = unroll(optimizer, 3, hyper=lambda key, fast: {"rate": 0.1, "momentum": 0.5})
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


@pytest.mark.parametrize("mode", ["mixed", "reverse", "rematerialized"])
@pytest.mark.parametrize(("steps", "cut"), [(6, 2), (7, 3), (4, 4), (3, 5)])
def test_truncation_is_its_closed_form(mode, steps, cut):
    """The loss h theta^2 / 2 after every step, whose rate reaches back to the stretch's start."""
    h, rate, theta = 0.7, 0.3, jnp.float32(2)

    def losses(rate, theta):
        loop = unroll(sgd, steps, hyper=learning_rates(0.1), truncate=cut, differentiation=mode)
        return 0.5 * h * loop.path(lambda leaf, key: 0.5 * h * leaf**2, theta, rate, KEY)[0] ** 2

    gradients = jax.jit(jax.grad(lambda *given: losses(*given).sum(), argnums=(0, 1)))
    of_rate, of_start = gradients(jnp.float32(rate), theta)
    shrinks, t = 1 - rate * h, np.arange(1, steps + 1)
    back = (t - 1) % cut + 1
    closed = -(h**2) * theta**2 * np.sum(back * shrinks ** (2 * t - 1))
    np.testing.assert_allclose(of_rate, closed, rtol=1e-5)
    reached = np.arange(min(cut, steps) + 1)
    np.testing.assert_allclose(of_start, np.sum(h * theta * shrinks ** (2 * reached)), rtol=1e-5)


def test_truncation_changes_no_value_and_forgets_the_optimizer_too():
    optimizer = optax.adam(0.1, eps_root=1e-8)
    loops = [unroll(optimizer, 5, truncate=cut) for cut in (None, 2)]
    whole, cut = (loop.path(quadratic, START, (), KEY) for loop in loops)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), whole, cut)
    # The last step is a stretch of its own, from leaves and moments that are constants.
    gradient = jax.grad(lambda theta: jnp.sum(adapt(loops[1], theta)))(START)
    np.testing.assert_array_equal(gradient, jnp.zeros(3))


def test_truncation_keeps_what_one_stretch_computes():
    wide = jnp.ones((4_000, 10))

    def loss(theta, key):
        return jnp.sum(jnp.tanh(wide @ theta))

    def memory(cut):
        loop = unroll(sgd(0.1), 64, truncate=cut, differentiation="reverse")
        final = jax.grad(lambda theta: jnp.sum(loop.run(loss, theta, (), KEY)[0]))
        compiled = jax.jit(final).lower(jnp.ones(10)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert memory(8) < memory(None) / 4


def test_an_optimizer_may_read_the_loss():
    def update(gradient, state, params=None, *, value, **others):
        return jax.tree.map(lambda leaf: -0.1 * value * leaf, gradient), state

    reading = optax.GradientTransformationExtraArgs(lambda params: (), update)
    value, gradient = quadratic(START, KEY), CURVATURE @ START
    moved = START - 0.1 * value * gradient
    np.testing.assert_allclose(adapt(unroll(reading, 1), START), moved, rtol=1e-6)
    # In first order both are constants; in second order neither is.
    summed = lambda loop: jax.grad(lambda theta: jnp.sum(adapt(loop, theta)))(START)  # noqa: E731
    np.testing.assert_array_equal(summed(unroll(reading, 1, first_order=True)), jnp.ones(3))
    both = 1 - 0.1 * (gradient * gradient.sum() + value * CURVATURE.sum(axis=0))
    np.testing.assert_allclose(summed(unroll(reading, 1)), both, rtol=1e-5)


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


@pytest.mark.parametrize(
    ("mode", "optimizer"),
    [
        ("mixed", optax.sgd(0.3, momentum=0.9)),
        ("reverse", sgd(0.3)),
        ("rematerialized", optax.sgd(0.3, momentum=0.9)),
    ],
    ids=MODES,
)
def test_row_t_of_the_path_is_where_t_steps_lead(mode, optimizer):
    """In value and, for the sum over all rows, in the outer gradient."""

    def outer(rows):
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(rows))

    def loss(leaves, key):
        scale = 1 + jax.random.normal(key, ())
        return jnp.sum(jnp.cosh(leaves["a"])) * scale + jnp.sum(leaves["b"] ** 4)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def along(start):
        rows, metrics = unroll(optimizer, 3, differentiation=mode).path(loss, start, (), KEY)
        return outer(rows), (rows, metrics)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def one_by_one(start):
        loops = [unroll(optimizer, steps, differentiation=mode) for steps in range(4)]
        ends, metrics = zip(*(loop.run(loss, start, (), KEY) for loop in loops), strict=True)
        rows = jax.tree.map(lambda *rows: jnp.stack(rows), *ends)
        return outer(rows), (rows, metrics[-1])

    start = {"a": START, "b": jnp.ones((2, 2))}
    assert_close(along(start), one_by_one(start))


def test_no_steps_leave_the_leaves_alone():
    loop = unroll(sgd(0.1), 0)
    np.testing.assert_array_equal(adapt(loop, START), START)
    np.testing.assert_array_equal(loop.path(quadratic, START, (), KEY)[0], START[None])


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
        (lambda: unroll(sgd(0.1), -1), ValueError, "steps.*-1"),
        (lambda: unroll(sgd(0.1), 1, truncate=0), ValueError, "truncate.*0"),
        (lambda: unroll(sgd(0.1), 1, hyper=learning_rates(0.1)), ValueError, "hyper.*function"),
        (
            lambda: unroll(sgd(0.1), 1, differentiation="forward"),
            ValueError,
            "'mixed', 'reverse' or 'rematerialized'.*'forward'",
        ),
        (lambda: learning_rates(0.1, "layer"), ValueError, "'loop'.*'layer'"),
        (lambda: partition({"a": START}, lambda name: False), ValueError, "none of a"),
        (
            lambda: unroll(sgd(0.1), 1).init(KEY, {"a": {"count": jnp.arange(3)}}),
            TypeError,
            "'a/count'.*int32",
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


def test_mixed_mode_differentiates_by_closed_over_complex_numbers():
    def outer(c, differentiation):
        def loss(fast, key):
            return jnp.sum(jnp.abs(c - fast.astype(c.dtype)) ** 2)

        loop = unroll(sgd(0.1), 2, differentiation=differentiation)
        return jnp.sum(loop.run(loss, jnp.ones(2), (), jax.random.key(0))[0] ** 2)

    c = jnp.array([1.5 + 1j, 2.0 - 1j])
    mixed, reverse = (jax.grad(outer)(c, mode) for mode in ("mixed", "reverse"))
    assert jnp.all(reverse != 0)
    np.testing.assert_allclose(mixed, reverse, rtol=1e-6)
