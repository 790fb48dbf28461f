"""Gradient steps whose rates and decays are chosen: special cases, NumPy, and what they read."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta.inner import (
    InnerLoop,
    coordinate_gates,
    gated,
    layer_gates,
    learning_rates,
    per_step,
    sgd,
    unroll,
)
from jaxmeta.types import Key, PyTree

KEY = jax.random.key(0)
STEPS = 3
THETA = {"a": jnp.array([[0.7, -1.1], [0.2, 0.5]]), "b": jnp.array([0.3, -0.9, 0.1])}
COORDINATE, LAYER = coordinate_gates(4), layer_gates(STEPS, rate=0.2, decay=0.1)


def quartic(leaves: PyTree, key: Key) -> jax.Array:
    """A loss that treats all coordinates alike."""
    return sum((jnp.sum(leaf**4 - leaf**3) for leaf in jax.tree.leaves(leaves)), jnp.zeros(()))


def end_and_gradient(loop: InnerLoop, hyper: PyTree) -> tuple[PyTree, PyTree]:
    """The leaves after the loop, and the gradient of a loss there by the initial ones."""

    @jax.jit
    def computed(theta: PyTree) -> tuple[PyTree, PyTree]:
        def end(theta: PyTree) -> tuple[jax.Array, PyTree]:
            last, _ = loop.run(quartic, theta, hyper, KEY)
            return quartic(last, KEY), last

        gradient, last = jax.grad(end, has_aux=True)(theta)
        return last, gradient

    return computed(THETA)


def shaken(weights: PyTree, by: float = 0.3) -> PyTree:
    """Weights, none of which is zero."""
    return jax.tree.map(lambda leaf: leaf + by * jax.random.normal(KEY, leaf.shape), weights)


def test_gates_that_read_nothing_and_forget_nothing_are_gradient_descent() -> None:
    weights = jax.tree.map(jnp.zeros_like, COORDINATE.hyper(KEY, THETA))
    weights["decay"]["bias"] = jnp.float32(-100)  # and a rate of one half
    ours = end_and_gradient(unroll(gated(COORDINATE), STEPS), weights)
    expected = end_and_gradient(unroll(optax.sgd(0.5), STEPS), ())
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


def test_layer_gates_start_as_descent_with_a_rate_and_a_decay_for_each_leaf_and_step() -> None:
    random = np.random.default_rng(0)
    hyper = LAYER.hyper(KEY, THETA)
    rate, decay = (jnp.float32(random.uniform(0.05, 0.3, (STEPS, 2))) for _ in range(2))
    ours = end_and_gradient(unroll(gated(LAYER), STEPS), hyper._replace(rate=rate, decay=decay))

    def descent(rows: PyTree) -> optax.GradientTransformation:
        def shrink(gradient: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
            return jax.tree.map(lambda g, p, d: g - d * p, gradient, params, rows["decay"]), state

        forget = optax.GradientTransformation(lambda params: optax.EmptyState(), shrink)
        return optax.chain(sgd(rows["rate"]), forget)

    rows = per_step(learning_rates(0.0, "leaf"), STEPS)(KEY, THETA)
    named = {
        name: {"a": values[:, 0], "b": values[:, 1]}
        for name, values in (("rate", rate), ("decay", decay))
    }
    loop = unroll(descent, STEPS, hyper=lambda key, fast: rows)
    expected = end_and_gradient(loop, rows._replace(rows=named))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), ours, expected)


def test_a_gate_reads_the_gate_before_it_without_its_sigmoid() -> None:
    weights = shaken(COORDINATE.hyper(KEY, THETA["b"]))
    theta, memory = THETA["b"], COORDINATE.init(THETA["b"])
    for step in range(2):
        gradient, value = 4 * theta**3 - 3 * theta**2, jnp.float32(0.1)
        before = memory
        chosen, memory = COORDINATE.choose(weights, memory, theta, gradient, value)
        for name in ("rate", "decay"):
            kernel, bias = weights[name]["kernel"], weights[name]["bias"]
            inner = np.asarray(memory.hidden @ kernel[:4] + theta * kernel[4] + bias)
            inner = inner + np.asarray(getattr(before, name)) * float(kernel[5])
            expected = 1 / (1 + np.exp(-inner))
            np.testing.assert_allclose(getattr(chosen, name), expected, rtol=1e-5)
        assert (np.abs(before.rate).max() > 0.1) == (step == 1)
        theta = (1 - chosen.decay) * theta - chosen.rate * gradient


def test_coordinates_do_not_know_each_other() -> None:
    weights = shaken(COORDINATE.hyper(KEY, THETA))
    order = np.array([2, 0, 1])

    @jax.jit
    def after(theta: PyTree) -> PyTree:
        return unroll(gated(COORDINATE), STEPS).run(quartic, theta, weights, KEY)[0]

    # The loss, which all read, is the same sum but for rounding.
    permuted = after({"a": THETA["a"].T, "b": THETA["b"][order]})
    straight = after(THETA)
    assert np.abs(straight["b"] - THETA["b"]).max() > 0.01
    np.testing.assert_allclose(permuted["b"], straight["b"][order], rtol=1e-5)
    np.testing.assert_allclose(permuted["a"].T, straight["a"], rtol=1e-5)


def test_layers_know_each_other_by_their_means() -> None:
    weights = shaken(LAYER.hyper(KEY, THETA))
    memory = LAYER.init(THETA)
    gradient = jax.grad(quartic)(THETA, KEY)
    choose = jax.jit(lambda g: LAYER.choose(weights, memory, THETA, g, jnp.zeros(()))[0])
    straight = choose(gradient)
    permuted = choose({**gradient, "a": gradient["a"][::-1]})
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), permuted, straight)
    moved = choose({**gradient, "a": gradient["a"] + 1})
    assert abs(float(moved.rate["b"] - straight.rate["b"])) > 1e-3
    assert jnp.shape(straight.rate["a"]) == ()


@pytest.mark.parametrize("gates", [COORDINATE, LAYER], ids=["coordinate", "layer"])
@pytest.mark.parametrize("first_order", [False, True])
def test_everything_that_is_learned_has_a_gradient(gates, first_order: bool) -> None:
    hyper = shaken(gates.hyper(KEY, THETA), by=0.05)
    loop = unroll(gated(gates), STEPS, first_order=first_order)

    @jax.jit
    def gradient(hyper: PyTree, theta: PyTree) -> PyTree:
        end = lambda hyper, theta: quartic(loop.run(quartic, theta, hyper, KEY)[0], KEY)  # noqa: E731
        return jax.grad(end, argnums=(0, 1))(hyper, theta)

    for leaf in jax.tree.leaves(gradient(hyper, THETA)):
        assert np.isfinite(leaf).all()
        assert np.abs(leaf).max() > 1e-8


def test_it_is_an_optax_transformation_for_any_loop() -> None:
    hyper = LAYER.hyper(KEY, THETA)
    optimizer = gated(LAYER).optimizer(hyper)
    params, state = THETA, optimizer.init(THETA)
    for _ in range(STEPS):
        value, gradient = jax.value_and_grad(quartic)(params, KEY)
        updates, state = optimizer.update(gradient, state, params, value=value)
        params = optax.apply_updates(params, updates)
    last, _ = unroll(gated(LAYER), STEPS).run(quartic, THETA, hyper, KEY)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), params, last)
    for given in ({"params": params}, {"value": value}):
        with pytest.raises(ValueError, match=r"value=loss"):
            optimizer.update(gradient, state, **given)


@pytest.mark.parametrize(
    ("make", "fields", "words"),
    [
        (coordinate_gates, {"hidden": 0}, "hidden.*0"),
        (coordinate_gates, {"log_range": 0.0}, "log_range.*0"),
        (layer_gates, {"steps": 0}, "steps.*0"),
        (layer_gates, {"steps": 1, "rate": -1.0}, "rate.*-1"),
        (layer_gates, {"steps": 1, "decay": -0.1}, "decay.*-0.1"),
    ],
)
def test_mistakes_are_told(make, fields: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make(**fields)
