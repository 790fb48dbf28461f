"""This library, as its users call it."""

import jax
import jax.numpy as jnp

from benchmarks.implementations.jaxmeta import as_arrays, leaf_name
from benchmarks.problem import Arrays, Implementation
from benchmarks.two_views.problem import HIDDEN, OUTPUTS, TEMPERATURE, Views, make_views
from jaxmeta.data import simclr_augmentation
from jaxmeta.distributed.parallel import by_shard_map, devices_for, replicate, use_cores
from jaxmeta.gradients import estimate
from jaxmeta.nn import conv4, projector
from jaxmeta.objectives import two_views
from jaxmeta.pretraining import simclr
from jaxmeta.types import Batch, Objective, PyTree

use_cores()


def make_objective() -> Objective:
    """SimCLR of two views."""
    return simclr(conv4(), projector(OUTPUTS, hidden=[HIDDEN]), temperature=TEMPERATURE)


def make_parameters(batches: int, size: int, side: int) -> Arrays:
    """The initial parameters."""
    first, second = make_views(batches, size, side)
    batch = _batch((jnp.asarray(first[0]), jnp.asarray(second[0])))
    return as_arrays(make_objective().init(jax.random.key(0), batch)[0])


def build(views: Views, parameters: Arrays, augment: bool = False) -> Implementation:
    """Builds the compiled gradient.

    Args:
      views: the views that the loss compares.
      parameters: the initial parameters, by name.
      augment: make the views from the first ones by SimCLR's augmentation.
    """
    objective = make_objective()
    first, second = (jnp.asarray(view) for view in views)
    tasks = jax.vmap(_batch)((first, second))
    params, state = objective.init(jax.random.key(0), jax.tree.map(lambda leaf: leaf[0], tasks))
    params = jax.tree_util.tree_map_with_path(
        lambda path, _: jnp.asarray(parameters[leaf_name(path)]), params
    )
    if augment:
        objective = two_views(objective, simclr_augmentation())
        tasks = tasks._replace(x=first)
    count = first.shape[0]
    devices = devices_for(count)
    gradient = estimate(objective, spread=by_shard_map(devices))
    step = jax.jit(lambda *arguments: gradient(*arguments)[0])
    keys = jax.random.split(jax.random.key(1), count)
    arguments = replicate((params, state, tasks, keys), devices)
    return Implementation(lambda: jax.block_until_ready(step(*arguments)), as_arrays)


def _batch(x: PyTree) -> Batch:
    size = jax.tree.leaves(x)[0].shape[0]
    return Batch(x, jnp.zeros(size, jnp.int32), jnp.ones(size, jnp.float32))
