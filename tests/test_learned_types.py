"""Learned optimizers and estimates in half precision, of mixed types, and on several devices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, PartitionSpec

from jaxmeta.inner import (
    coordinate_gates,
    coordinatewise_lstm,
    factored_moments,
    gated,
    layer_gates,
    momenta,
    per_parameter,
    unroll,
)
from jaxmeta.objectives import evolution_strategies
from jaxmeta.types import Objective, PyTree, Report

KEY = jax.random.key(0)
LEARNED = {
    "lstm": coordinatewise_lstm((3,)),
    "coordinate": gated(coordinate_gates(3)),
    "layer": gated(layer_gates(2)),
    "momenta": per_parameter(momenta((0.9, 0.9999)), (4,)),
    "factored": per_parameter(factored_moments(), (4,)),
}
EACH = pytest.mark.parametrize("name", LEARNED)


def squares(leaves: PyTree, key: jax.Array) -> jax.Array:
    return sum(
        (jnp.sum(leaf.astype(jnp.float32) ** 2) for leaf in jax.tree.leaves(leaves)), jnp.zeros(())
    )


@EACH
def test_leaves_may_have_any_floating_types_and_be_empty(name: str) -> None:
    theta = {
        "half": jnp.ones((3, 2), jnp.bfloat16),
        "full": jnp.ones((), jnp.float32),
        "none": jnp.ones((0, 2), jnp.float32),
    }
    learned = LEARNED[name]
    weights = learned.hyper(KEY, theta)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(weights)} == {"float32"}
    weights = jax.tree.map(lambda w: w + 0.1, weights)
    after, _ = unroll(learned, 2, first_order=True).run(squares, theta, weights, KEY)
    assert jax.tree.map(lambda leaf: leaf.dtype, after) == jax.tree.map(lambda x: x.dtype, theta)
    assert np.isfinite(np.float32(after["half"])).all()
    assert np.abs(np.float32(after["full"]) - 1) > 1e-5


def test_slow_averages_move_in_half_precision_too() -> None:
    features = momenta((0.9999,))
    leaf = jnp.ones(2, jnp.bfloat16)
    _, memory = features.read((), features.init(leaf), leaf, leaf)
    np.testing.assert_allclose(memory, 1e-4, rtol=1e-2)


@EACH
def test_each_device_takes_its_own_steps_where_jax_checks_that(name: str) -> None:
    learned = LEARNED[name]
    theta = jnp.arange(1.0, 9.0)[:, None]
    weights = jax.tree.map(lambda w: w + 0.1, learned.hyper(KEY, theta[0]))
    loop = unroll(learned, 2, first_order=True)

    def one(theta: jax.Array) -> jax.Array:
        return loop.run(squares, theta, weights, KEY)[0]

    mesh, rows = Mesh(jax.devices(), "tasks"), PartitionSpec("tasks")
    spread = jax.shard_map(jax.vmap(one), mesh=mesh, in_specs=rows, out_specs=rows)
    np.testing.assert_allclose(jax.jit(spread)(theta), jax.jit(jax.vmap(one))(theta), rtol=1e-5)


def test_estimates_from_values_are_of_the_types_of_the_parameters() -> None:
    objective = Objective(
        lambda key, task: (jnp.ones(3, jnp.bfloat16), ()),
        lambda params, state, task, key: (squares(params, key), Report()),
    )
    params, _ = objective.init(KEY, ())
    estimated = evolution_strategies(objective, sigma=0.5)
    gradient = jax.grad(lambda p: estimated.loss(p, (), (), KEY)[0])(params)
    assert gradient.dtype == jnp.bfloat16
    assert optax.tree.norm(gradient.astype(jnp.float32)) > 0.1
