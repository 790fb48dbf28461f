"""One inner loop after the other: the same as both by hand, and as a path."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta.inner import InnerLoop, learning_rates, sgd, then, unroll

KEY = jax.random.key(0)
START = {"head": jnp.array([1.0, -2.0]), "body": jnp.array([0.5, 3.0])}


def loss(leaves, key):
    return jnp.sum((leaves["head"] * leaves["body"] - 1) ** 2)


def is_head(name):
    return name == "head"


def test_it_is_both_loops_by_hand():
    first, second = unroll(optax.sgd(0.1), 2), unroll(optax.sgd(0.05), 3)
    loop = then(first, second, is_head)
    found, metrics = jax.jit(lambda leaves: loop.run(loss, leaves, (), KEY))(START)
    leaves = dict(START)
    losses = []
    for step in range(5):
        losses.append(loss(leaves, KEY))
        slope = jax.grad(loss)(leaves, KEY)
        names, rate = (["head"], 0.1) if step < 2 else (["head", "body"], 0.05)
        leaves |= {name: leaves[name] - rate * slope[name] for name in names}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, leaves)
    np.testing.assert_allclose(metrics["support_loss"], losses, rtol=1e-5)


def test_the_path_has_every_step_and_is_differentiated():
    loop = then(unroll(optax.sgd(0.1), 2), unroll(optax.sgd(0.05), 3), is_head)
    rows, _ = loop.path(loss, START, (), KEY)
    assert rows["head"].shape == (6, 2)
    jax.tree.map(lambda row, leaf: np.testing.assert_array_equal(row[0], leaf), rows, START)
    np.testing.assert_array_equal(rows["body"][:3], np.tile(START["body"], (3, 1)))
    last, _ = loop.run(loss, START, (), KEY)
    jax.tree.map(lambda row, leaf: np.testing.assert_allclose(row[-1], leaf), rows, last)

    def after(start):
        return loss(loop.run(loss, start, (), KEY)[0], KEY)

    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), START)
        slope, step = jax.grad(after)(wide), 1e-5
        for name in START:
            moved = [
                after({**wide, name: wide[name] + sign * step * jnp.array([1.0, 0.0])})
                for sign in (1, -1)
            ]
            expected = (moved[0] - moved[1]) / (2 * step)
            np.testing.assert_allclose(slope[name][0], expected, rtol=1e-5)


def test_each_loop_has_what_it_learns():
    learned = unroll(sgd, 1, hyper=learning_rates(0.1))
    hyper = then(learned, unroll(optax.sgd(0.1), 1), is_head).init(KEY, START)
    assert hyper[0].shape == ()
    assert hyper[1] == ()
    assert (
        then(unroll(optax.sgd(0.1), 1), unroll(optax.sgd(0.1), 1), is_head).init(KEY, START) == ()
    )
    pathless = InnerLoop(learned.init, learned.run)
    assert then(learned, pathless, is_head).path is None
    with pytest.raises(ValueError, match=r"chose none of body, head"):
        then(learned, learned, lambda name: False).run(loss, START, (hyper[0], hyper[0]), KEY)
