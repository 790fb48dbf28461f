"""Any number of devices computes what one computes, for any number of tasks."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta.distributed.microbatches import even_weights, pad
from jaxmeta.distributed.parallel import (
    by_pmap,
    by_shard_map,
    devices_for,
    layout_of_tasks,
    local_tasks,
    one_device,
    replicate,
    to_global_array,
)
from jaxmeta.gradients import estimate, pcgrad
from jaxmeta.inner import sgd, unroll
from jaxmeta.learners import gradient_learner
from jaxmeta.losses import squared_error
from jaxmeta.nn import mlp
from jaxmeta.objectives import episodic
from jaxmeta.train import init_carry, init_train_state, outer_loop
from jaxmeta.types import Batch, Episode, Objective, Report

KEY = jax.random.key(0)
LEARNER = gradient_learner(mlp(1, (8,)), unroll(sgd(0.05), 2), loss=squared_error)
OBJECTIVE = episodic(LEARNER, squared_error)
SPREADS = [by_shard_map, by_pmap]


def sample(data, key):
    x = jax.random.normal(key, (6, 1))
    batch = Batch(x, jnp.sin(x) + data, jnp.ones(6))
    return Episode(*(jax.tree.map(lambda leaf, i=i: leaf[i::2], batch) for i in (0, 1)))


def batch_of(tasks: int):
    keys = jax.random.split(KEY, tasks)
    return jax.vmap(sample, (None, 0))(jnp.zeros(()), keys), keys


def same(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one, other)


@jax.jit
def gradient_of_one(params, state, episode, key):
    def loss(params):
        adapt_key, predict_key = jax.random.split(key)
        adapted, _ = LEARNER.adapt(params, state, episode.support, adapt_key)
        outputs, _ = LEARNER.predict(params, state, adapted, episode.query.x, None, predict_key)
        return jnp.mean((outputs - episode.query.y) ** 2)

    return jax.grad(loss)(params)


@pytest.mark.parametrize("tasks", [3, 11])
def test_chunks_and_devices_compute_what_one_device_computes(tasks):
    batch, keys = batch_of(tasks)
    params, state = LEARNER.init(KEY, jax.tree.map(lambda leaf: leaf[0], batch))
    by_hand = [
        gradient_of_one(params, state, *jax.tree.map(lambda leaf, i=i: leaf[i], (batch, keys)))
        for i in range(tasks)
    ]
    whole = jax.jit(estimate(OBJECTIVE, chunk=tasks))(params, state, batch, keys)
    same(whole[0], jax.tree.map(lambda *leaves: sum(leaves) / tasks, *by_hand))
    same(jax.jit(estimate(OBJECTIVE, chunk=2))(params, state, batch, keys), whole)
    for by, chunk in ((by_shard_map, None), (by_shard_map, 1), (by_pmap, None)):
        spread = estimate(OBJECTIVE, chunk=chunk, spread=by(jax.devices()))
        same(jax.jit(spread)(params, state, batch, keys), whole)


@pytest.mark.parametrize("by", SPREADS)
def test_training_over_devices_is_that_of_one(by):
    optimizer = optax.adam(0.01)
    ends = []
    for spread, devices in ((one_device, jax.devices()[:1]), (by(jax.devices()), jax.devices())):
        update = outer_loop(OBJECTIVE, optimizer, sample, 11, spread=spread)
        initial = init_train_state(optimizer, *LEARNER.init(KEY, sample(jnp.zeros(()), KEY)))
        given = replicate((initial, jnp.zeros(()), KEY), devices)
        ends.append(jax.device_get(update(*given, 20)))
    same(*ends)


def test_parameters_cut_over_devices_are_trained_alike():
    optimizer, devices = optax.adam(0.01), jax.devices()
    ends = []
    for spread, on, shards in (
        (one_device, devices[:1], 1),
        (by_shard_map(devices, shards=2), devices, 2),
    ):
        update = outer_loop(OBJECTIVE, optimizer, sample, 11, spread=spread)
        initial = init_train_state(optimizer, *LEARNER.init(KEY, sample(jnp.zeros(()), KEY)))
        common = replicate((jnp.zeros(()), KEY), on, shards)
        end, metrics = update(replicate(initial, on, shards), *common, 20)
        ends.append(jax.device_get((end, metrics)))
    same(*ends)
    for kept in (end.params, end.optimizer[0].mu):
        layer = kept["model"]["layer0"]["kernel"]
        assert layer.shape == (1, 8)
        assert layer.addressable_shards[0].data.shape == (1, 4)
    with pytest.raises(ValueError, match="8 devices cannot be grouped by 3 shards"):
        replicate(initial, devices, 3)


@pytest.mark.parametrize("by", SPREADS)
@pytest.mark.parametrize("tasks", [8, 11])
def test_a_step_communicates_once(by, tasks):
    update = outer_loop(
        OBJECTIVE, optax.adam(0.01), sample, tasks, chunk=1, spread=by(jax.devices())
    )
    initial = init_train_state(optax.adam(0.01), *LEARNER.init(KEY, sample(jnp.zeros(()), KEY)))
    given = replicate((initial, jnp.zeros(()), KEY), jax.devices())
    program = update.lower(*given, 20).compile().as_text()
    collectives = re.findall(
        r"= .* (all-reduce|all-gather|all-to-all|reduce-scatter|collective-[a-z]+)"
        r"(?:-start)?\(",
        program,
    )
    assert collectives == ["all-reduce"]


COUNTED = Objective(
    init=lambda key, task: (
        jnp.float32(1),
        {"count": jnp.int32(0), "constant": jnp.float32(0.1), "mean": jnp.float32(0)},
    ),
    loss=lambda params, state, task, key: (
        (params * task.task - state["constant"]) ** 2,
        Report({"mean": task.task}, {"seen": task.carry}, task.carry + jnp.sum(task.task)),
    ),
    update=lambda state, params, statistics: {
        **state,
        "count": state["count"] + 1,
        "mean": 0.75 * state["mean"] + 0.25 * statistics["mean"],
    },
    carry=lambda params, state, task, key: jnp.zeros(()),
)


@pytest.mark.parametrize("tasks", [8, 11])
@pytest.mark.parametrize(("devices", "chunk", "by"), [
    (1, 11, by_shard_map), (1, 2, by_shard_map), (8, 1, by_shard_map), (3, 2, by_shard_map),
    (4, 2, by_pmap),
])  # fmt: skip
def test_state_is_updated_once_and_what_is_carried_stays_with_its_task(devices, chunk, by, tasks):
    """A constant and a count survive exactly, and the mean is that of all tasks."""

    def draw(data, key):
        return jax.random.normal(key)

    on = jax.devices()[:devices]
    update = outer_loop(COUNTED, optax.sgd(0.0), draw, tasks, chunk=chunk, spread=by(on))
    params, state = COUNTED.init(KEY, ())
    carry = init_carry(COUNTED, params, state, draw, (), KEY, tasks)
    initial = init_train_state(optax.sgd(0.0), params, state, carry)
    end, metrics = update(*replicate((initial, (), KEY), on), 20)
    assert end.state["count"] == 20
    assert end.state["constant"] == jnp.float32(0.1)
    # By hand: the same draws, in a loop.
    keys = [jax.random.split(jax.random.fold_in(KEY, step), 2 * tasks + 1) for step in range(20)]
    drawn = np.array([[float(draw((), k)) for k in step[: 2 * tasks : 2]] for step in keys])
    average = 0.0
    for row in drawn:
        average = 0.75 * average + 0.25 * row.mean()
    np.testing.assert_allclose(end.state["mean"], average, rtol=1e-4)
    np.testing.assert_allclose(end.carry, drawn.sum(axis=0), rtol=1e-4, atol=1e-5)
    seen = np.concatenate([np.zeros((1, tasks)), np.cumsum(drawn, axis=0)[:-1]]).mean(axis=1)
    np.testing.assert_allclose(metrics["seen"], seen, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tasks", [8, 11])
def test_what_is_carried_is_laid_out_as_it_comes_back(tasks):
    def draw(data, key):
        return jax.random.normal(key)

    devices, optimizer = jax.devices(), optax.sgd(0.1)
    update = outer_loop(COUNTED, optimizer, draw, tasks, spread=by_shard_map(devices))
    params, state = COUNTED.init(KEY, ())
    carry = init_carry(COUNTED, params, state, draw, (), KEY, tasks)
    train_state, key = replicate((init_train_state(optimizer, params, state, carry), KEY), devices)
    train_state = train_state._replace(
        carry=jax.device_put(train_state.carry, layout_of_tasks(carry, tasks, devices))
    )
    for _ in range(2):
        train_state, _ = update(train_state, (), key, 2)
    assert update._cache_size() <= 1  # 0 if many other programs have pushed it out


def test_surgery_over_devices_is_that_of_one():
    batch, keys = batch_of(11)
    params, state = LEARNER.init(KEY, jax.tree.map(lambda leaf: leaf[0], batch))
    arguments = (params, state, batch, keys, jax.random.key(7))
    whole = jax.jit(estimate(OBJECTIVE, estimator=pcgrad(), chunk=11))(*arguments)
    for chunk, devices in ((2, 1), (1, 8), (2, 3)):
        spread = by_shard_map(jax.devices()[:devices])
        surgery = estimate(OBJECTIVE, estimator=pcgrad(), chunk=chunk, spread=spread)
        same(jax.jit(surgery)(*arguments), whole)


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("tasks", [3, 8, 11])
def test_every_task_is_brought_to_its_device(tasks, shards):
    devices = jax.devices()
    taken = local_tasks(tasks, devices, shards)
    assert sorted(set(taken.tolist())) == list(range(tasks))
    shares = pad(jnp.arange(tasks), even_weights(tasks), 8 // shards)[0].reshape(8 // shards, -1)
    array = to_global_array(taken, tasks, devices, shards)
    for shard in array.addressable_shards:
        group = devices.index(shard.device) // shards
        np.testing.assert_array_equal(shard.data, shares[group])


@pytest.mark.parametrize("by", SPREADS)
@pytest.mark.parametrize("items", [3, 8, 19])
def test_values_of_items_come_back_in_order(by, items):
    spread = by(jax.devices())(lambda c, i, w: (jnp.sum(w), c * i**2))
    total, values = jax.jit(spread)(2, jnp.arange(items), even_weights(items))
    np.testing.assert_array_equal(values, 2 * np.arange(items) ** 2)
    np.testing.assert_allclose(total, 1, rtol=1e-6)


@pytest.mark.parametrize("by", SPREADS)
def test_one_device_runs_the_very_program_that_is_not_spread(by):
    assert by(jax.devices()[:1]) is one_device


def test_devices_without_a_task_are_left_out():
    assert [len(devices_for(tasks)) for tasks in (1, 7, 8, 9, 16, 17)] == [1, 7, 8, 5, 8, 6]
