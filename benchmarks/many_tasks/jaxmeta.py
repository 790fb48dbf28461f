"""This library, as its users call it."""

import jax
import jax.numpy as jnp

from benchmarks.implementations.jaxmeta import as_arrays, leaf_name
from benchmarks.many_tasks.problem import CLASSES, SHARED, Tasks, make_tasks
from benchmarks.problem import Arrays, Implementation
from jaxmeta.distributed.parallel import by_shard_map, devices_for, replicate, use_cores
from jaxmeta.gradients import estimate, mean, pcgrad
from jaxmeta.multitask import hard_sharing, multitask
from jaxmeta.nn import conv4, mlp
from jaxmeta.types import Batch, Objective, Tasked

use_cores()


def make_objective(tasks: int) -> Objective:
    """A conv4 that tasks share, with a linear head for each."""
    return multitask(hard_sharing(conv4(), mlp(CLASSES, hidden=()), tasks))


def make_parameters(tasks: int, size: int, side: int) -> Arrays:
    """The initial parameters."""
    first = jax.tree.map(lambda leaf: leaf[0], _batches(make_tasks(tasks, size, side)))
    return as_arrays(make_objective(tasks).init(jax.random.key(0), first)[0])


def build(tasks: Tasks, parameters: Arrays, surgery: bool = True) -> Implementation:
    """Builds the compiled gradient: by PCGrad or, without surgery, the mean over tasks."""
    objective, batches = make_objective(len(tasks.x)), _batches(tasks)
    first = jax.tree.map(lambda leaf: leaf[0], batches)
    params, state = objective.init(jax.random.key(0), first)
    params = jax.tree_util.tree_map_with_path(
        lambda path, _: jnp.asarray(parameters[leaf_name(path)]), params
    )
    devices = devices_for(len(tasks.x))
    estimator = pcgrad(shared=SHARED) if surgery else mean()
    gradient = estimate(objective, estimator=estimator, spread=by_shard_map(devices))
    step = jax.jit(lambda *arguments: gradient(*arguments)[0])
    keys = jax.random.split(jax.random.key(1), len(tasks.x))
    arguments = replicate((params, state, batches, keys, jax.random.key(2)), devices)
    return Implementation(lambda: jax.block_until_ready(step(*arguments)), as_arrays)


def _batches(tasks: Tasks) -> Batch:
    count, size = tasks.y.shape
    numbers = jnp.repeat(jnp.arange(count, dtype=jnp.int32)[:, None], size, axis=1)
    y = jnp.asarray(tasks.y, jnp.int32)
    return Batch(Tasked(jnp.asarray(tasks.x), numbers), y, jnp.ones((count, size), jnp.float32))
