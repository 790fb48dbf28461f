"""What every objective promises, of a case; ``test_objectives`` runs them over a table.

A new objective is one more row of the table. A step has twelve tasks, which eight devices do not
divide, and the state of every objective also holds a constant and a large count.
"""

import importlib
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxmeta.data.placed import at_place
from jaxmeta.distributed.parallel import by_shard_map, replicate
from jaxmeta.gradients import estimate
from jaxmeta.keys import task_keys
from jaxmeta.nn import Statistics, batch_norm
from jaxmeta.runs.checkpoint import load, open_checkpoints, save
from jaxmeta.train import TrainState, Update, init_carry, init_train_state, outer_loop
from jaxmeta.types import Carried, Key, Metrics, Model, Objective, PyTree, Report, Sampler

TASKS, STEPS, KEY = 12, 40, jax.random.key(0)
LARGE = 2**24  # a float32 cannot count beyond it
SKETCHES = ("learned_optimizer", "tokens")


class Case(NamedTuple):
    """An objective, the tasks that it is for, and an optimizer with which its loss falls."""

    objective: Objective
    sample: Sampler
    data: PyTree
    optimizer: optax.GradientTransformation = optax.adam(0.03)


def sketch(name: str) -> Case:
    """The case of a file of ``tests/sketches``."""
    module = importlib.import_module(f"tests.sketches.{name}")
    return Case(module.objective, module.sample, module.data)


def normalized_mlp(outputs):
    """Two layers with batch normalization between them: a model with statistics."""

    def init(key, x):
        keys = jax.random.split(key)
        params = {
            "body": jax.random.normal(keys[0], (x[0].size, 8)) / 2,
            "scale": jnp.ones(8),
            "offset": jnp.zeros(8),
            "head": jax.random.normal(keys[1], (8, outputs)) / 3,
        }
        return params, Statistics(jnp.zeros(8), jnp.ones(8))

    def apply(params, state, x, mask=None, key=None, batch_statistics=True):
        x = x.reshape(x.shape[0], -1)
        x, used = batch_norm(
            x @ params["body"], params["scale"], params["offset"], state, mask, batch_statistics
        )
        return jax.nn.relu(x) @ params["head"], used

    return Model(init, apply)


def held(objective: Objective) -> Objective:
    """The same objective, in whose state there are a constant and a count besides."""

    def init(key, task):
        params, state = objective.init(key, task)
        return params, {"own": state, "constant": jnp.float32(1), "count": jnp.int32(LARGE)}

    def update(state, params, statistics):
        own = objective.update(state["own"], params, statistics)
        return {**state, "own": own, "count": state["count"] + 1}

    begin = objective.carry
    return Objective(
        init,
        lambda params, state, *given: objective.loss(params, state["own"], *given),
        update,
        begin and (lambda params, state, *given: begin(params, state["own"], *given)),
    )


class Step(NamedTuple):
    """What one step begins with."""

    params: PyTree
    state: PyTree
    carry: PyTree
    tasks: PyTree
    keys: Key


def first_step(case: Case) -> Step:
    """The first step of the training with ``KEY``."""
    objective, begin = case.objective, case.objective.carry

    @jax.jit
    def draw(data: PyTree) -> Step:
        init_key, carry_key = jax.random.split(jax.random.key(1))
        keys = task_keys(KEY, 0, TASKS)
        places = jnp.arange(TASKS)
        tasks = jax.vmap(at_place(case.sample), (None, 0, 0))(data, keys.sample, places)
        params, state = objective.init(init_key, jax.tree.map(lambda leaf: leaf[0], tasks))
        carry = init_carry(objective, params, state, case.sample, data, carry_key, TASKS)
        tasks = tasks if begin is None else Carried(tasks, carry)
        return Step(params, state, carry, tasks, keys.loss)

    return draw(case.data)


def on_all_devices(case: Case, step: Step) -> tuple[Update, TrainState, PyTree]:
    """The outer loop, what it begins with, and the data, on every device of every process."""
    devices = jax.devices()
    spread = by_shard_map(devices)
    update = outer_loop(case.objective, case.optimizer, case.sample, TASKS, chunk=1, spread=spread)
    begun = init_train_state(case.optimizer, step.params, step.state, step.carry)
    # Eight devices do not divide twelve tasks, so what they carry is whole on every device as well.
    return update, *replicate((begun, case.data), devices)


def trained(case: Case, steps: int) -> tuple[TrainState, Metrics]:
    """What is learned in so many steps by all devices, and the metrics of each step."""
    # Adam would magnify the rounding of gradients that are 0.
    case = case._replace(objective=held(case.objective), optimizer=optax.sgd(0.1))
    update, train_state, data = on_all_devices(case, first_step(case))
    return update(train_state, data, KEY, steps)


def one_by_one(objective: Objective, step: Step) -> tuple[PyTree, Report]:
    """The gradient and the report by a plain loop over the tasks, and means by NumPy."""

    @jax.jit
    def of_task(step: Step, i: int) -> tuple[PyTree, Report]:
        task, key = jax.tree.map(lambda leaf: leaf[i], (step.tasks, step.keys))
        value_and_grad = jax.value_and_grad(objective.loss, has_aux=True)
        (loss, report), gradient = value_and_grad(step.params, step.state, task, key)
        return gradient, report._replace(metrics={"loss": loss, **report.metrics})

    rows = [of_task(step, i) for i in range(TASKS)]
    gradient, report = jax.tree.map(lambda *leaves: np.stack(leaves), *rows)
    means = jax.tree.map(
        lambda leaf: leaf.mean(axis=0), (gradient, report.statistics, report.metrics)
    )
    return means[0], Report(*means[1:], report.carry)


def keeps_its_promises(case: Case, folder: Path) -> None:
    """Chunks and devices compute what a plain loop over the tasks does, and training goes on."""
    assert jax.device_count() == 8
    case = case._replace(objective=held(case.objective))
    step = first_step(case)
    gradient, report = one_by_one(case.objective, step)
    assert optax.tree.norm(gradient) > 1e-3
    in_chunks = jax.jit(estimate(case.objective, chunk=5))
    same(in_chunks(step.params, step.state, step.tasks, step.keys), (gradient, report))

    update, train_state, data = on_all_devices(case, step)
    train_state, metrics = update(train_state, data, KEY, 1)
    same(
        jax.tree.map(lambda row: row[0], metrics),
        {**report.metrics, "outer_gradient_norm": optax.tree.norm(gradient)},
    )
    same(_gradient_of(step.params, train_state), gradient)
    moved = case.objective.update(step.state, train_state.params, report.statistics)
    same((train_state.state, train_state.carry), (moved, report.carry))
    losses = [metrics["loss"]]

    with open_checkpoints(folder, higher_is_better=True) as checkpoints:
        save(checkpoints, 1, train_state, {})
        straight = jax.device_get(update(train_state, data, KEY, 1))
        resumed, _ = load(checkpoints, 1, like=train_state)
    train_state, metrics = update(resumed, data, KEY, 1)
    jax.tree.map(np.testing.assert_array_equal, (train_state, metrics), straight)

    while train_state.step < STEPS:
        train_state, metrics = update(train_state, data, KEY, 1)
        losses.append(metrics["loss"])
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])
    assert update._cache_size() <= 1  # 0 if many other programs have pushed it out
    assert train_state.state["constant"] == 1
    assert train_state.state["count"] == LARGE + STEPS


def _gradient_of(before: PyTree, after: TrainState) -> PyTree:
    """The gradient of the one step that led to a train state, by Adam or by SGD of rate 1."""
    first_moment = optax.tree.get(after.optimizer, "mu")  # a tenth of the gradient
    if first_moment is not None:
        return jax.tree.map(lambda leaf: 10 * leaf, first_moment)
    return jax.tree.map(lambda old, new: old - new, before, after.params)


def same(one: PyTree, other: PyTree) -> None:
    """Asserts equality to the rounding of float32."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one, other)
