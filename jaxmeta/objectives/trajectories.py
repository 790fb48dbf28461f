"""Learned optimizers, trained on stretches of trajectories that go on from step to step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.distributed.varying import varying_alike
from jaxmeta.inner import LearnedOptimizer
from jaxmeta.inner.unroll import inner_step
from jaxmeta.losses import cross_entropy
from jaxmeta.objectives.queries import check_episode
from jaxmeta.types import (
    Array,
    Batch,
    Carried,
    Episode,
    Key,
    Loss,
    Model,
    Objective,
    PyTree,
    Report,
)


class Trajectory(NamedTuple):
    """Where the training of a network stands.

    Attributes:
      step: inner steps that it has taken, int32.
      done: whether the next step starts another one.
      fast: the network's parameters.
      optimizer: the state of the learned optimizer.
      episode: what the network is trained on.
    """

    step: Array
    done: Array
    fast: PyTree
    optimizer: PyTree
    episode: Episode


def trajectories(
    model: Model,
    optimizer: LearnedOptimizer,
    loss: Loss = cross_entropy,
    *,
    stretch: int,
    horizon: int,
    first_order: bool = False,
) -> Objective:
    r"""The mean query loss over the next few inner steps of a training that is under way.

    .. math:: \frac1k \sum_{t=s+1}^{s+k} L(\theta_t;\, \text{query}), \qquad
              \theta_{t+1} = \theta_t + u(\nabla L(\theta_t;\, \text{support});\, h_t)

    with the weights of u as parameters. Each outer step goes on by a stretch of k inner steps from
    where the last one ended; after ``horizon`` steps, a new network is trained on a newly drawn
    episode. The outer gradient goes through one stretch, and memory is that of one. (The first
    trajectories are at random places of the horizon, so that not all end together.)

    In contrast to :func:`jaxmeta.objectives.along`, whose every outer step has whole trajectories,
    weights learn ``horizon / stretch`` times on the way, and where a trajectory stands depends on
    the weights that there were before. For gradients without the bias of truncation, see
    :func:`jaxmeta.objectives.evolution_strategies`.

    Args:
      model: its outputs are logits or regression values; batch statistics are those of the batch.
      optimizer: the learned optimizer, such as :func:`jaxmeta.inner.coordinatewise_lstm`.
      loss: the loss of both sets.
      stretch: k, inner steps of an outer step.
      horizon: inner steps of a trajectory, a multiple of ``stretch``.
      first_order: treat inner gradients as constants.

    Returns:
      An objective over episodes, with parameters ``{"hyper"}``; those of
      :func:`jaxmeta.learners.from_scratch` with the same optimizer have the same form. It carries a
      :class:`Trajectory`, and reports the query loss after the stretch as ``final_loss``.

    Raises:
      ValueError: ``stretch`` is not positive, or ``horizon`` not a multiple of it.

    References:
      Andrychowicz et al., 2016, Learning to Learn by Gradient Descent by Gradient Descent, whose
      published code updates the weights five times in 100 steps.

    >>> from jaxmeta.inner import coordinatewise_lstm
    >>> from jaxmeta.losses import sum_of_squares
    >>> from jaxmeta.nn import linear
    >>> lstm = coordinatewise_lstm(log_range=None)
    >>> objective = trajectories(linear(1), lstm, sum_of_squares, stretch=20, horizon=100)
    """
    check_count("stretch", stretch, least=1)
    check_count("horizon", horizon, least=1)
    if horizon % stretch:
        raise ValueError(
            f"horizon is {horizon}, which is no multiple of stretch, {stretch}: give one."
        )

    def init(key: Key, episode: Episode) -> tuple[PyTree, PyTree]:
        check_episode(episode)
        model_key, hyper_key = jax.random.split(key)
        fast, _ = model.init(model_key, episode.support.x)
        return {"hyper": optimizer.hyper(hyper_key, fast)}, ()

    def start(params: PyTree, episode: Episode, key: Key) -> Trajectory:
        fast, _ = model.init(key, episode.support.x)
        begun = optimizer.optimizer(params["hyper"]).init(fast)
        return Trajectory(jnp.int32(0), jnp.bool_(False), fast, begun, episode)

    def carry(params: PyTree, state: PyTree, episode: Episode, key: Key) -> Trajectory:
        start_key, place_key = jax.random.split(key)
        taken = stretch * jax.random.randint(place_key, (), 0, horizon // stretch, jnp.int32)
        return start(params, episode, start_key)._replace(step=taken)

    def task_loss(params: PyTree, state: PyTree, task: Carried, key: Key) -> tuple[Array, Report]:
        params, task, key = varying_alike(params, task, key)
        start_key, steps_key = jax.random.split(key)
        fresh = start(params, task.task, start_key)
        now: Trajectory = jax.tree.map(
            lambda new, old: jnp.where(task.carry.done, new, old), fresh, task.carry
        )
        transformation = optimizer.optimizer(params["hyper"])
        _, statistics = model.init(start_key, task.task.support.x)

        def loss_on(batch: Batch, fast: PyTree, key: Key) -> Array:
            outputs, _ = model.apply(fast, statistics, batch.x, batch.mask, key)
            return loss(outputs, batch.y, batch.mask)

        support = jax.value_and_grad(lambda fast, key: loss_on(now.episode.support, fast, key))

        def one_step(carry: tuple[PyTree, PyTree], key: Key) -> tuple[tuple[PyTree, PyTree], Array]:
            support_key, query_key = jax.random.split(key)
            step = inner_step(support, transformation, *carry, support_key, first_order)
            fast, optimizer_state, _ = step
            return (fast, optimizer_state), loss_on(now.episode.query, fast, query_key)

        keys = jax.random.split(steps_key, stretch)
        (fast, optimizer_state), losses = jax.lax.scan(one_step, (now.fast, now.optimizer), keys)
        step = now.step + stretch
        after = Trajectory(step, step >= horizon, fast, optimizer_state, now.episode)
        return jnp.mean(losses), Report(metrics={"final_loss": losses[-1]}, carry=after)

    return Objective(init, task_loss, carry=carry)
