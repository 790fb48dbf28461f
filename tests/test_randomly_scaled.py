"""Coordinates in units of their own: closed forms, and what they are for."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta.inner import coordinatewise_lstm, randomly_scaled, unroll

KEY, START = jax.random.key(3), {"a": jnp.array([4.0, -1.0]), "b": jnp.float32(2.0)}


def loss(theta, key):
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(theta)) / 2


def test_gradient_descent_has_a_rate_for_each_coordinate():
    rate, steps, spread = 0.001, 3, 1.5
    loop = randomly_scaled(unroll(optax.sgd(rate), steps), spread)
    found, metrics = loop.run(loss, START, (), KEY)
    assert metrics["support_loss"].shape == (steps,)
    np.testing.assert_allclose(metrics["support_loss"][0], loss(START, KEY), rtol=1e-5)
    # (1 - r c^2)^T theta
    shares = np.concatenate(
        [np.ravel(a / b) for a, b in zip(*map(jax.tree.leaves, (found, START)), strict=True)]
    )
    logs = np.log((1 - shares ** (1 / steps)) / rate) / 2
    assert np.all(np.abs(logs) <= spread * 1.01)
    assert np.ptp(logs) > 0.05  # each has its own


def test_units_are_drawn_evenly_on_a_logarithmic_scale_for_each_task():
    loop = randomly_scaled(unroll(optax.sgd(1e-4), 1), 2.0)
    start = jnp.ones(50)
    found = jax.vmap(lambda key: loop.run(loss, start, (), key)[0])(jax.random.split(KEY, 60))
    logs = np.log((1 - np.asarray(found, np.float64)) / 1e-4) / 2
    np.testing.assert_allclose([logs.mean(), logs.std()], [0, 2 / 3**0.5], atol=0.1)


def test_the_path_ends_where_the_loop_does_and_begins_at_the_start():
    loop = randomly_scaled(unroll(coordinatewise_lstm((3,)), 4, first_order=True))
    hyper = loop.init(KEY, START)
    rows, _ = loop.path(loss, START, hyper, KEY)
    end, _ = loop.run(loss, START, hyper, KEY)
    jax.tree.map(lambda row, one: np.testing.assert_allclose(row[0], one, rtol=1e-5), rows, START)
    jax.tree.map(lambda row, one: np.testing.assert_allclose(row[-1], one, rtol=1e-5), rows, end)


def test_no_spread_is_told():
    with pytest.raises(ValueError, match="spread is 0: give a positive number"):
        randomly_scaled(unroll(optax.sgd(0.1), 1), 0)
