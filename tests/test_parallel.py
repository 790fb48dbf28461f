"""Any number of devices computes what one computes, for any number of tasks."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta.distributed.microbatches import cut, weighted
from jaxmeta.distributed.parallel import (
    by_pmap,
    by_shard_map,
    gather,
    map_over_devices,
    one_device,
    over_devices,
    places,
    put,
    replicate,
    sharing,
)
from jaxmeta.gradients import mean_gradient
from jaxmeta.inner import sgd, unroll
from jaxmeta.learners import gradient_learner, maml_plus_plus
from jaxmeta.losses import cross_entropy, squared_error
from jaxmeta.nn import mlp
from jaxmeta.objectives import episodic, multi_step
from jaxmeta.train import outer_loop, start
from jaxmeta.types import Aux, Batch, Episode, Learner

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


@pytest.mark.parametrize("tasks", [3, 8, 11])
def test_chunks_and_devices_compute_what_one_device_computes(tasks):
    batch, keys = batch_of(tasks)
    params, state = LEARNER.init(KEY, jax.tree.map(lambda leaf: leaf[0], batch))
    by_hand = [
        gradient_of_one(params, state, *jax.tree.map(lambda leaf, i=i: leaf[i], (batch, keys)))
        for i in range(tasks)
    ]
    whole = jax.jit(mean_gradient(OBJECTIVE, tasks))(params, state, batch, keys)
    same(whole[0], jax.tree.map(lambda *leaves: sum(leaves) / tasks, *by_hand))
    same(jax.jit(mean_gradient(OBJECTIVE, 2))(params, state, batch, keys), whole)
    for by, chunk in ((by_shard_map, None), (by_shard_map, 1), (by_pmap, None)):
        spread = over_devices(mean_gradient(OBJECTIVE, chunk), by(jax.devices()))
        same(jax.jit(spread)(params, state, batch, keys), whole)


@pytest.mark.parametrize("by", SPREADS)
def test_training_over_devices_is_that_of_one(by):
    optimizer = optax.adam(0.01)
    ends = []
    for spread, devices in ((one_device, jax.devices()[:1]), (by(jax.devices()), jax.devices())):
        update = outer_loop(mean_gradient(OBJECTIVE), optimizer, sample, 11, spread)
        initial = start(optimizer, *LEARNER.init(KEY, sample(jnp.zeros(()), KEY)))
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
        update = outer_loop(mean_gradient(OBJECTIVE), optimizer, sample, 11, spread)
        initial = start(optimizer, *LEARNER.init(KEY, sample(jnp.zeros(()), KEY)))
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
        mean_gradient(OBJECTIVE, 1), optax.adam(0.01), sample, tasks, by(jax.devices())
    )
    initial = start(optax.adam(0.01), *LEARNER.init(KEY, sample(jnp.zeros(()), KEY)))
    given = replicate((initial, jnp.zeros(()), KEY), jax.devices())
    program = update.lower(*given, 20).compile().as_text()
    collectives = re.findall(
        r"= .* (all-reduce|all-gather|all-to-all|reduce-scatter|collective-[a-z]+)"
        r"(?:-start)?\(",
        program,
    )
    assert collectives == ["all-reduce"]


@pytest.mark.parametrize("by", SPREADS)
@pytest.mark.parametrize("items", [16, 11])
def test_a_loss_of_the_whole_batch_gathers_it(by, items):
    def contrastive(everything):
        def objective(params, state, batch, keys, weights=None):
            ours = jnp.tanh(batch @ params)
            logits = ours @ everything(ours).T
            if weights is not None:
                logits = jnp.where(everything(weights) > 0, logits, -jnp.inf)
            losses = jax.nn.logsumexp(logits, axis=1)
            return losses, Aux(state, {"loss": weighted(losses, weights)})

        return objective

    params, batch = jax.random.normal(KEY, (3, 2)), jax.random.normal(KEY, (items, 3))
    arguments = (params, {}, batch, jax.random.split(KEY, items))
    expected = jax.jit(mean_gradient(contrastive(lambda items: items), items))(*arguments)
    spread = over_devices(mean_gradient(contrastive(gather), 2), by(jax.devices()))
    same(jax.jit(spread)(*arguments), expected)


def test_averages_in_the_state_are_those_of_all_tasks():
    def predict(params, state, adapted, x, mask=None, key=None):
        return params * x, {"average": jnp.mean(x)}

    learner = Learner(lambda key, episode: (), lambda *_: ((), {}), predict)
    objective = episodic(learner, squared_error, decay=0.75)
    batch, keys = batch_of(11)
    arguments = (jnp.float32(2), {"average": jnp.float32(4)}, batch, keys)
    expected = 0.75 * 4 + 0.25 * jnp.mean(batch.query.x)
    for chunk, devices in ((11, 1), (2, 1), (1, 8), (2, 8), (3, 3)):
        spread = by_shard_map(jax.devices()[:devices])
        gradient = jax.jit(over_devices(mean_gradient(objective, chunk), spread))
        _, aux = gradient(*arguments)
        np.testing.assert_allclose(aux.state["average"], expected, rtol=1e-6)


def test_outer_steps_are_counted_whole_however_tasks_are_shared():
    learner = maml_plus_plus(mlp(3, (4,)), 3, steps=2, learning_rate=0.1)
    objective = multi_step(learner, cross_entropy, annealing_steps=5)

    def classes(data, key):
        x = jax.random.normal(key, (3, 2))
        batch = Batch(x, jnp.arange(3, dtype=jnp.int32), jnp.ones(3))
        return Episode(batch, batch)

    optimizer = optax.sgd(0.01)
    spread = by_shard_map(jax.devices()[:3])
    update = outer_loop(mean_gradient(objective, 2), optimizer, classes, 10, spread)
    initial = start(optimizer, *learner.init(KEY, classes((), KEY)))
    end, _ = update(*replicate((initial, (), KEY), jax.devices()[:3]), 200)
    np.testing.assert_allclose(end.state.outer_step, 200, rtol=1e-6)


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("tasks", [3, 8, 11])
def test_places_and_put_bring_every_task_to_its_device(tasks, shards):
    devices = jax.devices()
    taken = places(tasks, devices, shards)
    assert sorted(set(taken.tolist())) == list(range(tasks))
    shares = cut(np.arange(tasks), 8 // shards)[0]
    array = put(taken, tasks, devices, shards)
    for shard in array.addressable_shards:
        group = devices.index(shard.device) // shards
        np.testing.assert_array_equal(shard.data, shares[group])


@pytest.mark.parametrize("items", [3, 8, 19])
def test_values_of_items_come_back_in_order(items):
    spread = jax.jit(map_over_devices(lambda c, i: c * i**2, jax.devices()))
    np.testing.assert_array_equal(spread(2, jnp.arange(items)), 2 * np.arange(items) ** 2)


@pytest.mark.parametrize("by", SPREADS)
def test_one_device_runs_the_very_program_that_is_not_spread(by):
    assert by(jax.devices()[:1])(weighted) is weighted


def test_devices_without_a_task_are_left_out():
    assert [len(sharing(tasks)) for tasks in (1, 7, 8, 9, 16, 17)] == [1, 7, 8, 5, 8, 6]
