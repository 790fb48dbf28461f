"""Layers, and the model made of them, against lax, numpy and formulas left to differentiation."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.nn import Statistics, batch_norm, conv4, max_pool, moments, relation_module

ROOT = Path(__file__).parents[2]

KEYS = jax.random.split(jax.random.key(0), 4)


def pooled(x):
    """As lax has it: where several are the largest, the derivative is of one of them."""
    window = (1, 2, 2, 1)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")


def orders(function):
    """A function's values, its gradient, and the gradient of a function of its gradient."""

    def gradient(*arguments):
        return jax.grad(lambda *a: _sines(function(*a)))(*arguments)

    return jax.jit(
        lambda *a: (function(*a), gradient(*a), jax.grad(lambda *a: _sines(gradient(*a)))(*a))
    )


def _sines(tree):
    return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(tree))


def assert_close(ours, theirs, atol):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), ours, theirs)


@pytest.mark.parametrize("size", [(5, 4), (6, 7), (2, 3)])
def test_max_pool_is_that_of_lax_in_value_and_derivatives(size):
    x = jax.random.normal(KEYS[0], (2, *size, 3))
    ours, theirs = (orders(function)(x) for function in (max_pool, pooled))
    np.testing.assert_array_equal(ours[0], theirs[0])
    assert_close(ours, theirs, 1e-6)


def test_derivative_of_max_pool_at_ties_is_the_mean_of_theirs():
    x = jnp.array([[1.0, 1.0, 2.0, 0.0], [1.0, 0.0, 2.0, 2.0]]).reshape(1, 2, 4, 1)
    gradient = jax.grad(lambda x: jnp.sum(jnp.array([3.0, 6.0]) * max_pool(x).ravel()))(x)
    np.testing.assert_allclose(gradient[0, ..., 0], [[1, 1, 2, 0], [1, 0, 2, 2]], rtol=1e-6)
    # Forward, and where all four are equal, as behind a ReLU that let nothing through.
    tangent = jnp.arange(4.0).reshape(1, 2, 2, 1)
    _, moved = jax.jvp(max_pool, (jnp.zeros((1, 2, 2, 1)),), (tangent,))
    np.testing.assert_allclose(moved.item(), 1.5, rtol=1e-6)


MIXED = """
import jax, jax.numpy as jnp
from jaxmeta.nn import chained, conv_block, mixture, pooling
operations = {"conv": conv_block(32), "pool": pooling(), "stride": conv_block(32, "stride")}
model = chained(block0=conv_block(32), block1=mixture(**operations), block2=mixture(**operations))
x = jax.random.uniform(jax.random.key(0), (5, 32, 32, 1))
params, state = model.init(jax.random.key(1), x)
gradient = jax.jit(jax.grad(lambda params: jnp.sum(model.apply(params, state, x)[0] ** 2)))(params)
assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
"""


@pytest.mark.slow
def test_max_pool_of_what_a_compiler_computes_again_has_a_finite_derivative():
    """Fused into two loops, a sum may be rounded in two ways, and be no maximum of itself.

    In a process of its own, as with the flags of the tests the compiler fuses less.
    """
    alone = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    subprocess.run([sys.executable, "-c", MIXED], env=alone, cwd=ROOT, check=True)


def plain_moments(x, mask):
    """Biased, of the kept examples, and differentiated as it stands."""
    weights = jnp.broadcast_to(mask[:, None, None, None], x.shape)
    count = jnp.sum(weights, axis=(0, 1, 2))
    mean = jnp.sum(weights * x, axis=(0, 1, 2)) / count
    centered = x - jnp.broadcast_to(mean, x.shape)
    return Statistics(mean, jnp.sum(weights * centered**2, axis=(0, 1, 2)) / count)


@pytest.mark.parametrize("mask", [None, (1, 0, 1, 1, 0), (0, 0, 0, 1, 0)])
def test_moments_are_those_of_the_kept_examples_in_value_and_derivatives(mask):
    x = 2 + 3 * jax.random.normal(KEYS[0], (5, 3, 4, 2))
    given = None if mask is None else jnp.array(mask, jnp.float32)
    kept = np.asarray(x, np.float64) if mask is None else np.asarray(x)[np.array(mask) == 1]
    ours = orders(lambda x: moments(x, given))(x)
    np.testing.assert_allclose(ours[0].mean, kept.mean(axis=(0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(ours[0].variance, kept.var(axis=(0, 1, 2)), rtol=1e-5)
    weights = jnp.ones(5) if mask is None else given
    assert_close(ours, orders(lambda x: plain_moments(x, weights))(x), 1e-5)


def test_moments_of_many_terms_are_not_rounded_away():
    x = 3 + jax.random.normal(KEYS[0], (100, 32, 32, 4))
    ours = jax.jit(moments)(x)
    x = np.asarray(x, np.float64)
    np.testing.assert_allclose(ours.mean, x.mean(axis=(0, 1, 2)), rtol=2e-6)
    np.testing.assert_allclose(ours.variance, x.var(axis=(0, 1, 2)), rtol=2e-6)


def test_moments_of_no_examples_are_finite():
    x = jax.random.normal(KEYS[0], (3, 2, 2, 2))
    statistics, *derivatives = orders(lambda x: moments(x, jnp.zeros(3)))(x)
    jax.tree.map(lambda leaf: np.testing.assert_array_equal(leaf, 0), (statistics, *derivatives))


def test_batch_norm_by_its_own_statistics():
    x = 3 + 2 * jax.random.normal(jax.random.key(0), (4, 3, 3, 2))
    scale, offset = jnp.array([1.0, 2.0]), jnp.array([0.5, -1.0])
    stale = Statistics(jnp.full(2, 9.0), jnp.full(2, 9.0))
    y, used = batch_norm(x, scale, offset, stale, None, True, epsilon=0.0)
    np.testing.assert_allclose(np.mean(y, axis=(0, 1, 2)), offset, atol=1e-5)
    np.testing.assert_allclose(np.std(y, axis=(0, 1, 2)), scale, rtol=1e-5)
    np.testing.assert_allclose(used.mean, np.mean(x, axis=(0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(used.variance, np.var(x, axis=(0, 1, 2)), rtol=1e-5)
    again, _ = batch_norm(x, scale, offset, used, None, False, epsilon=0.0)
    np.testing.assert_allclose(y, again, atol=1e-6)


def test_masked_examples_take_no_part_in_statistics():
    x = jax.random.normal(jax.random.key(0), (5, 3, 3, 2))
    mask = jnp.array([1.0, 0.0, 1.0, 1.0, 0.0])
    kept = x[np.array([0, 2, 3])]
    arguments = (jnp.ones(2), jnp.zeros(2), Statistics(jnp.zeros(2), jnp.ones(2)))
    y, used = batch_norm(x, *arguments, mask, True)
    alone, alone_used = batch_norm(kept, *arguments, None, True)
    np.testing.assert_allclose(y[np.array([0, 2, 3])], alone, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), used, alone_used)


def chain(params, state, x, mask, batch_statistics, downsample):
    """conv4 as the papers write it: convolution, batch normalization, ReLU, pooling."""
    stride = (2, 2) if downsample == "stride" else (1, 1)
    used = {}
    for name, statistics in state.items():
        block = params[name]
        x = jax.lax.conv_general_dilated(
            x, block["kernel"], stride, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        used[name] = plain_moments(x, mask) if batch_statistics else statistics
        mean, deviation, scale, offset = (
            vector[None, None, None]
            for vector in (
                used[name].mean,
                jnp.sqrt(used[name].variance + 1e-5),
                block["scale"],
                block["offset"],
            )
        )
        x = jax.nn.relu(scale * (x - mean) / deviation + offset)
        if downsample == "pool":
            x = pooled(x)
    x = jnp.mean(x, axis=(1, 2)) if downsample == "stride" else x.reshape(x.shape[0], -1)
    return x @ params["head"]["kernel"] + params["head"]["bias"][None], used


@pytest.mark.parametrize("downsample", ["pool", "stride"])
@pytest.mark.parametrize("batch_statistics", [True, False])
def test_conv4_is_its_layers_in_the_order_of_the_papers(downsample, batch_statistics):
    """It pools before it normalizes, which a scale below zero would turn upside down."""
    model = conv4(3, filters=4, downsample=downsample)
    x = jax.random.normal(KEYS[0], (5, 17, 16, 2))
    mask = jnp.array([1.0, 1.0, 0.0, 1.0, 1.0])
    params, state = model.init(KEYS[1], x)
    # Not at their initial values, where half of what can go wrong is the same.
    for i, name in enumerate(state):
        a, b, c, d = (
            0.3 * jax.random.normal(jax.random.fold_in(KEYS[2], 4 * i + j), (4,)) for j in range(4)
        )
        signs = jnp.array([1.0, -1.0, 1.0, -1.0]) * (-1.0) ** i
        params[name]["scale"] = signs * jnp.exp(a)
        params[name]["offset"] = b
        state[name] = Statistics(c, jnp.exp(d))

    def ours(params, state, x):
        return model.apply(params, state, x, mask, None, batch_statistics)

    def theirs(params, state, x):
        return chain(params, state, x, mask, batch_statistics, downsample)

    def value_and_gradients(function):
        # Of the examples that count, and of the statistics, by everything there is.
        def loss(*arguments):
            answers, used = function(*arguments)
            return _sines((answers * mask[:, None], used))

        return jax.jit(lambda *a: (function(*a), jax.grad(loss, (0, 1, 2))(*a)))(params, state, x)

    assert_close(value_and_gradients(ours), value_and_gradients(theirs), 2e-4)


def test_a_relation_module_is_two_blocks_and_two_layers():
    module = relation_module(filters=4, hidden=3)
    pairs = jax.random.normal(KEYS[0], (5, 5, 4, 6))
    params, state = module.init(KEYS[1], pairs)
    mask = jnp.array([1.0, 1.0, 0.0, 1.0, 1.0])
    scores, used = module.apply(params, state, pairs, mask)
    hidden, moved = chain({**params, "head": params["hidden"]}, state, pairs, mask, True, "pool")
    layer = params["head"]
    expected = jax.nn.relu(hidden) @ layer["kernel"] + layer["bias"][None]
    assert_close((scores * mask, used), (expected[:, 0] * mask, moved), 1e-4)
