"""Layers against lax, numpy and themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.nn import Statistics, batch_norm, conv2d, max_pool


def reference(x, kernel, stride):
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("window", [(1, 1), (3, 3), (2, 5)])
@pytest.mark.parametrize("size", [(7, 8), (1, 2)])
def test_convolution_equals_that_of_lax_in_value_and_derivatives(stride, window, size):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, *size, 3))
    kernel = jax.random.normal(keys[1], (*window, 3, 4))
    np.testing.assert_allclose(conv2d(x, kernel, stride), reference(x, kernel, stride), atol=1e-4)

    def first(function):
        return jax.grad(lambda x, k: jnp.sum(jnp.sin(function(x, k, stride))), (0, 1))

    def second(function):
        return jax.grad(
            lambda x, k: sum(jnp.sum(jnp.sin(g)) for g in first(function)(x, k)), (0, 1)
        )

    if stride == 2 and size == (7, 8):
        for order in (first, second):
            ours, theirs = (jax.jit(order(function))(x, kernel) for function in (conv2d, reference))
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(a, b, atol=2e-3)


def test_convolution_under_vmap_is_a_product_of_matrices():
    x, kernel = jnp.ones((4, 2, 8, 8, 3)), jnp.ones((4, 3, 3, 3, 5))

    def loss(x, kernel):
        return jnp.sum(jax.vmap(conv2d)(x, kernel) ** 2)

    program = str(jax.make_jaxpr(jax.grad(loss, (0, 1)))(x, kernel))
    assert "conv_general_dilated" not in program
    assert "dot_general" in program


def test_max_pool_is_the_maximum_of_each_window():
    x = jax.random.normal(jax.random.key(0), (2, 5, 4, 3))
    by_hand = np.array(x)[:, :4].reshape(2, 2, 2, 2, 2, 3).max(axis=(2, 4))
    np.testing.assert_array_equal(max_pool(x), by_hand)


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


def test_convolution_refuses_channels_that_do_not_fit():
    with pytest.raises(ValueError, match="3 channels but the kernel takes 1"):
        conv2d(jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 1, 4)))
