"""In a user's own ``jax.shard_map``, with its default check of what varies over devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from jaxmeta.gradients import estimate
from jaxmeta.inner import implicit, sgd, unroll
from jaxmeta.learners import (
    fine_tuning,
    imaml,
    maml,
    maml_plus_plus,
)
from jaxmeta.losses import cross_entropy
from jaxmeta.nn import blocks, conv2d, mlp
from jaxmeta.objectives import episodic
from tests import contracts
from tests.contracts import KEY, TASKS, WAYS, small, task, tasks

DEVICES = jax.devices()[:4]
SHARED, CUT = PartitionSpec(), PartitionSpec("devices")
MESH = jax.sharding.Mesh(np.array(DEVICES), ("devices",))
over_devices = functools.partial(jax.shard_map, mesh=MESH, out_specs=SHARED)
LEARNERS = {
    "maml_of_a_perceptron": maml(mlp(WAYS, (4,)), WAYS, steps=2, learning_rate=0.1),
    "maml_plus_plus": maml_plus_plus(small(WAYS), WAYS, steps=2),
    "imaml": imaml(small(WAYS), WAYS, steps=2, learning_rate=0.1, solver_steps=2),
    "fine_tuning": fine_tuning(
        mlp(8, (4,)), WAYS, steps=2, learning_rate=1e-3, trained="all", entropy=0.5
    ),
}


@pytest.mark.parametrize("channels", [3, 16], ids=["patches", "winograd"])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("whole", [blocks.WHOLE, 10_000], ids=["whole", "blocks"])
def test_gradients_of_a_convolution_are_summed_over_devices(monkeypatch, order, channels, whole):
    monkeypatch.setattr(blocks, "WHOLE", whole)
    monkeypatch.setattr(blocks, "BLOCK", whole)
    x = jax.random.normal(KEY, (4, 2, 8, 8, channels))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, channels, 16)) / channels

    def loss(kernel, x):
        return jnp.sum(jnp.tanh(conv2d(x.reshape(-1, 8, 8, channels), kernel)))

    def of_gradient(kernel, x):
        return jnp.sum(jax.grad(loss)(kernel, x) ** 2)

    gradient = jax.jit(jax.grad(loss if order == 1 else of_gradient, argnums=(0, 1)))
    spread = over_devices(gradient, in_specs=(SHARED, CUT), out_specs=(SHARED, CUT))
    for one, whole in zip(jax.jit(spread)(kernel, x), gradient(kernel, x), strict=True):
        assert jnp.linalg.norm(one - whole) <= 1e-4 * jnp.linalg.norm(whole)


def test_a_convolution_of_what_jax_cuts_by_itself():
    mesh = jax.make_mesh((4,), ("devices",))
    x = jax.random.normal(KEY, (4, 8, 8, 1))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 1, 4))
    gradient = jax.jit(jax.grad(lambda kernel, x: jnp.sum(jnp.tanh(conv2d(x, kernel)))))
    spread = gradient(kernel, jax.device_put(x, jax.NamedSharding(mesh, CUT)))
    np.testing.assert_allclose(spread, gradient(kernel, x), rtol=1e-4, atol=1e-4)


def test_tasks_that_jax_cuts_by_itself():
    mesh = jax.make_mesh((4,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,))
    model, x = mlp(2, (5,)), jax.random.normal(KEY, (8, 3, 6))
    params, state = model.init(KEY, x[0])

    def loss(params, x):
        return jnp.sum(jnp.tanh(jax.vmap(lambda x: model.apply(params, state, x)[0])(x)))

    gradient = jax.jit(jax.grad(loss))
    spread = gradient(params, jax.device_put(x, jax.NamedSharding(mesh, CUT)))
    contracts.same(spread, gradient(params, x))


@pytest.mark.parametrize(
    "loop",
    [
        unroll(sgd(0.1), 2),
        unroll(sgd(0.1), 2, differentiation="reverse"),
        unroll(sgd(0.1), 2, first_order=True),
        implicit(optax.sgd(0.1), 2, 1.0),
    ],
    ids=["mixed", "reverse", "first_order", "implicit"],
)
def test_an_inner_loop_of_ones_own_adapts_to_the_data_of_the_device(loop):
    """Whatever of the loss differs between devices, as the start and the key are shared."""

    def adapted(start, points):
        return loop.run(lambda now, _: jnp.mean((now - points) ** 2), start, (), KEY)[0][None]

    start, points = jnp.zeros(()), jnp.arange(8.0)
    spread = over_devices(adapted, in_specs=(SHARED, CUT), out_specs=CUT)(start, points)
    alone = [adapted(start, points[2 * i : 2 * i + 2])[0] for i in range(4)]
    np.testing.assert_allclose(spread, alone, rtol=1e-5)


def test_a_leaf_that_an_optimizer_leaves_alone():
    """No cotangent comes to its gradient, differing between devices or not."""
    only_a = optax.partition(
        {"move": optax.sgd(0.1), "stay": optax.set_to_zero()}, {"a": "move", "b": "stay"}
    )
    loop = unroll(only_a, 2)

    def outer(start, points):
        def loss(now, _):
            return jnp.mean((now["a"] * now["b"] - points) ** 2)

        now = loop.run(loss, start, (), KEY)[0]
        return jnp.sum((now["a"] - points) ** 2) + now["b"]

    start, points = {"a": jnp.ones(()), "b": jnp.full((), 2.0)}, jnp.arange(8.0)
    gradient = jax.grad(outer)
    spread = over_devices(gradient, in_specs=(SHARED, CUT))(start, points)
    alone = [gradient(start, points[2 * i : 2 * i + 2]) for i in range(4)]
    whole = jax.tree.map(lambda *leaves: sum(leaves), *alone)
    contracts.same(spread, whole)


@pytest.mark.parametrize("learner", LEARNERS.values(), ids=LEARNERS)
def test_a_gradient_of_ones_own_is_that_of_one_device(learner):
    """No task's adaptation looks at the tasks of another device, with which it shares a key."""
    episodes, _ = tasks(0)
    params, state = learner.init(KEY, task())

    def loss(params, state, episodes):
        def of_task(episode):
            adapted, _ = learner.adapt(params, state, episode.support, KEY)
            x, y, mask = episode.query
            return cross_entropy(learner.predict(params, state, adapted, x, mask)[0], y, mask)

        return jnp.sum(jax.vmap(of_task)(episodes))

    gradient = jax.value_and_grad(loss)

    def share(*arguments):
        value, summed = gradient(*arguments)
        return jax.lax.psum(value, "devices"), summed

    spread = jax.jit(over_devices(share, in_specs=(SHARED, SHARED, CUT)))
    value, summed = spread(params, state, episodes)
    whole_value, whole = jax.jit(gradient)(params, state, episodes)
    np.testing.assert_allclose(value, whole_value, rtol=1e-4)
    apart = optax.tree.norm(jax.tree.map(jnp.subtract, summed, whole))
    assert apart <= 1e-3 * optax.tree.norm(whole) + 1e-6


@pytest.mark.parametrize("chunk", [1, TASKS])
def test_a_mean_gradient_is_that_of_the_tasks_of_the_device(chunk):
    episodes, keys = tasks(0)
    learner = maml(small(WAYS), WAYS, steps=2, learning_rate=0.1)
    params, state = learner.init(KEY, task())
    gradient = estimate(episodic(learner, cross_entropy), chunk=chunk)

    def share(*arguments):
        return jax.tree.map(lambda leaf: jax.lax.pmean(leaf, "devices"), gradient(*arguments))

    spread = jax.jit(over_devices(share, in_specs=(SHARED, SHARED, CUT, CUT)))
    mean, report = spread(params, state, episodes, keys)
    whole, whole_report = contracts.gradient(contracts.Case(learner))(params, state, episodes, keys)
    apart = optax.tree.norm(jax.tree.map(jnp.subtract, mean, whole))
    assert apart <= 1e-3 * optax.tree.norm(whole)
    contracts.same(report, whole_report)
