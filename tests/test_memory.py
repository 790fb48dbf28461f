import jax
import jax.numpy as jnp

from jaxmeta.distributed.memory import footprint, tasks_at_a_time
from jaxmeta.gradients import estimate
from jaxmeta.inner import sgd, unroll
from jaxmeta.types import Objective, Report

X = jnp.ones(256)
KIB = 1024


def test_footprint_adds_up_what_is_computed():
    assert footprint(lambda x: jnp.sin(jnp.cos(x)), X) == 2 * KIB


def test_a_loop_counts_as_often_as_it_runs():
    def loop(x):
        return jax.lax.scan(lambda carry, _: (jnp.sin(carry), None), x, length=7)[0]

    assert footprint(loop, X) == 7 * KIB


def test_what_a_derivative_computes_again_counts_once():
    def chain(x):
        return jnp.sin(jnp.sin(jnp.sin(x)))

    def loop(x, body):
        return jax.lax.scan(lambda carry, _: (body(carry), None), x, length=7)[0]

    # Each repetition keeps its result, and one at a time has its three values beside.
    assert footprint(lambda x: loop(x, jax.checkpoint(chain)), X) == (7 + 3) * KIB
    assert footprint(lambda x: loop(x, chain), X) == 7 * 3 * KIB


def test_mixed_mode_keeps_parameters_only():
    # 1 KiB of parameters, 64 KiB of activations.
    def loss(fast, key):
        return jnp.mean(jnp.tanh(jnp.outer(jnp.ones(64), fast)) ** 2)

    def adapted(steps, differentiation):
        loop = unroll(sgd(0.1), steps, differentiation=differentiation)
        return lambda fast: loop.run(loss, fast, (), jax.random.key(0))[0]

    mixed, reverse = (
        (footprint(adapted(30, mode), X) - footprint(adapted(10, mode), X)) / 20
        for mode in ("mixed", "reverse")
    )
    assert mixed < 10 * KIB
    assert reverse > 64 * KIB


def test_as_many_tasks_as_fit_and_at_least_one():
    assert tasks_at_a_time(jnp.sin, X, tasks=9, budget=5 * KIB) == 5
    assert tasks_at_a_time(jnp.sin, X, tasks=3, budget=5 * KIB) == 3
    assert tasks_at_a_time(jnp.sin, X, tasks=9, budget=1) == 1


def test_what_is_chosen_changes_no_number(monkeypatch):
    objective = Objective(
        init=lambda key, task: (X, ()),
        loss=lambda params, state, task, key: (jnp.mean((task * params) ** 2), Report()),
    )
    arguments = (X, (), jax.random.normal(jax.random.key(0), (6, 256)), jax.random.split(KEY, 6))
    whole = estimate(objective, chunk=6)(*arguments)
    assert "scan" not in str(jax.make_jaxpr(estimate(objective))(*arguments))
    monkeypatch.setattr("jaxmeta.distributed.memory.CACHE", 8 * KIB)
    assert "scan" in str(jax.make_jaxpr(estimate(objective))(*arguments))
    chosen = estimate(objective)(*arguments)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(chosen), strict=True):
        assert jnp.allclose(a, b, rtol=1e-6)


KEY = jax.random.key(1)
