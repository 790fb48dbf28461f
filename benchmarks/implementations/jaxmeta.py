"""This library, as its users call it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.problem import Arrays, Data, Implementation, Problem
from jaxmeta import losses, nn
from jaxmeta.distributed.parallel import by_shard_map, devices_for, replicate, use_cores
from jaxmeta.gradients import estimate
from jaxmeta.inner import path_name, sgd, unroll
from jaxmeta.learners import gradient_learner, prototypical
from jaxmeta.objectives import episodic
from jaxmeta.types import Batch, Episode, Learner, Model, Objective, PyTree

use_cores()


def make_model(problem: Problem) -> Model:
    """The model; for protonet it has no head."""
    if problem.model == "mlp":
        return nn.mlp(1)
    return nn.conv4(None if problem.learner == "protonet" else problem.ways, problem.filters)


def make_learner(problem: Problem, model: Model, differentiation: str = "mixed") -> Learner:
    """The learner of one task."""
    if problem.learner == "protonet":
        return prototypical(model, problem.ways)
    inner = unroll(
        sgd(problem.learning_rate),
        problem.inner_steps,
        first_order=problem.learner == "fomaml",
        differentiation=differentiation,
    )
    if problem.model == "mlp":
        return gradient_learner(model, inner, loss=losses.squared_error)
    return gradient_learner(model, inner, problem.ways)


def make_objective(problem: Problem, model: Model, differentiation: str = "mixed") -> Objective:
    """The query loss of this model, as an objective."""
    loss = losses.squared_error if problem.model == "mlp" else losses.cross_entropy
    return episodic(make_learner(problem, model, differentiation), loss)


def make_arguments(problem: Problem, data: Data, parameters: Arrays | None = None) -> PyTree:
    """The arguments of the gradient: parameters, state, episodes and keys.

    Args:
      problem: what is computed.
      data: the meta-batch.
      parameters: the initial parameters; ``None`` draws them.
    """
    support, query = (
        Batch(jnp.asarray(x), jnp.asarray(y), jnp.ones(y.shape[:2], jnp.float32))
        for x, y in (data[:2], data[2:])
    )
    episodes = Episode(support, query)
    learner = make_learner(problem, make_model(problem))
    first = jax.tree.map(lambda leaf: leaf[0], episodes)
    params, state = learner.init(jax.random.key(0), first)
    if parameters is not None:
        params = jax.tree_util.tree_map_with_path(
            lambda path, _: jnp.asarray(parameters[leaf_name(path)]), params
        )
    return params, state, episodes, jax.random.split(jax.random.key(1), problem.tasks)


def leaf_name(path: tuple[Any, ...]) -> str:
    """The name of a leaf within its model."""
    return path_name(path).removeprefix("model/")


def as_arrays(params: PyTree) -> Arrays:
    """Parameters, or their gradient, by name."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {leaf_name(path): np.asarray(leaf) for path, leaf in leaves}


def build(
    problem: Problem,
    data: Data,
    parameters: Arrays,
    model: Model | None = None,
    at_once: bool = False,
) -> Implementation:
    """Builds the compiled meta-gradient.

    Args:
      problem: what is computed.
      data: the meta-batch.
      parameters: the initial parameters.
      model: a model to use instead of the library's own.
      at_once: map over all tasks at once.
    """
    model = model or make_model(problem)
    devices = jax.devices()[:1] if at_once else devices_for(problem.tasks)
    objective, chunk = make_objective(problem, model), problem.tasks if at_once else None
    gradient = estimate(objective, chunk=chunk, spread=by_shard_map(devices))
    # The gradient alone, as in the other libraries, without the metrics that training reports.
    step = jax.jit(lambda *arguments: gradient(*arguments)[0])
    # Placed where training keeps them, so that calls move no data.
    arguments = replicate(make_arguments(problem, data, parameters), devices)
    return Implementation(lambda: jax.block_until_ready(step(*arguments)), as_arrays)
