"""What training depends on, learned on stretches of trajectories that go on from step to step."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxmeta.checks import check_count
from jaxmeta.distributed.varying import varying_alike
from jaxmeta.inner import LearnedOptimizer, check_differentiable, merge, partition
from jaxmeta.inner.unroll import inner_step
from jaxmeta.learners.frames.support import check_ways, present_classes, support_loss
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
      fast: the network's parameters that the inner steps move.
      optimizer: the optimizer's state.
      episode: what the network is trained on.
    """

    step: Array
    done: Array
    fast: PyTree
    optimizer: PyTree
    episode: Episode


def trajectories(
    model: Model,
    optimizer: LearnedOptimizer | optax.GradientTransformation,
    loss: Loss = cross_entropy,
    ways: int | None = None,
    *,
    stretch: int,
    horizon: int | None = None,
    fast: Callable[[str], bool] = lambda name: True,
    renewed: bool = False,
    first_order: bool = False,
) -> Objective:
    r"""The mean query loss over the next few inner steps of a training that is under way.

    .. math:: \frac1k \sum_{t=s+1}^{s+k} L(\theta_t;\, \text{query}), \qquad
              \theta_{t+1} = \theta_t + u(\nabla L(\theta_t;\, \text{support});\, h_t)

    whose parameters are the weights of a learned u and those of the network that are not fast. Each
    outer step goes on by a stretch of k inner steps from where the last one ended; after
    ``horizon`` steps, a new network is trained on a newly drawn episode. The outer gradient goes
    through one stretch, and memory is that of one. (The first trajectories are at random places of
    the horizon, so that not all end together.)

    In contrast to :func:`jaxmeta.objectives.along`, whose every outer step has whole trajectories,
    parameters learn ``horizon / stretch`` times on the way, and where a trajectory stands depends
    on what they were before. For gradients without the bias of truncation, see
    :func:`jaxmeta.objectives.evolution_strategies`.

    With a fixed optimizer, a stretch of one step, no horizon, renewed episodes and one task a step,
    this is a form of DARTS: the network is trained on the support sets, and its slow parameters on
    the query sets, through the step. (DARTS itself takes the network's step again, after that of
    the slow parameters, and its first-order form evaluates before the step.)

    Args:
      model: its outputs are logits or regression values; batch statistics are those of the batch.
      optimizer: a learned optimizer, such as :func:`jaxmeta.inner.coordinatewise_lstm`, or an optax
        transformation.
      loss: the loss of both sets.
      ways: number of classes, of which those that are absent are masked; ``None`` for regression.
      stretch: k, inner steps of an outer step.
      horizon: inner steps of a trajectory, a multiple of ``stretch``; ``None`` to go on for ever.
      fast: whether a parameter of the network is moved by the inner steps, by its name; the others
        are learned.
      renewed: whether each stretch has a newly drawn episode, as if these were the minibatches of
        one problem.
      first_order: treat inner gradients as constants.

    Returns:
      An objective over episodes, with parameters ``{"hyper"}``, like those of
      :func:`jaxmeta.learners.from_scratch` with the same optimizer, and ``"model"`` if some are
      slow. It carries a :class:`Trajectory`, whose episode is thus in every checkpoint, and reports
      the query loss after the stretch as ``final_loss``.

    Raises:
      TypeError: when called, a fast parameter does not have a floating type.
      ValueError: ``stretch`` or ``ways`` is not positive, ``horizon`` not a multiple of
        ``stretch`` or, when called, no parameter is fast.

    References:
      Andrychowicz et al., 2016, Learning to Learn by Gradient Descent by Gradient Descent, whose
      published code updates the weights five times in 100 steps; Liu, Simonyan and Yang, 2019,
      DARTS: Differentiable Architecture Search, equation 6.

    >>> from jaxmeta.inner import coordinatewise_lstm
    >>> from jaxmeta.losses import sum_of_squares
    >>> from jaxmeta.nn import linear
    >>> lstm = coordinatewise_lstm(log_range=None)
    >>> objective = trajectories(linear(1), lstm, sum_of_squares, stretch=20, horizon=100)
    """
    check_count("stretch", stretch, least=1)
    check_ways(ways)
    if horizon is not None:
        check_count("horizon", horizon, least=1)
    if horizon is not None and horizon % stretch:
        raise ValueError(
            f"horizon is {horizon}, which is no multiple of stretch, {stretch}: give one."
        )
    if isinstance(optimizer, LearnedOptimizer):
        learned = optimizer
    else:
        fixed = optimizer
        learned = LearnedOptimizer(lambda key, fast: (), lambda hyper: fixed)

    def init(key: Key, episode: Episode) -> tuple[PyTree, PyTree]:
        check_episode(episode)
        model_key, hyper_key = jax.random.split(key)
        quick, slow = partition(model.init(model_key, episode.support.x)[0], fast)
        check_differentiable(quick)
        hyper = {"hyper": learned.hyper(hyper_key, quick)}
        return {**hyper, "model": slow} if jax.tree.leaves(slow) else hyper, ()

    def start(params: PyTree, episode: Episode, key: Key) -> tuple[Trajectory, PyTree]:
        own, state = model.init(key, episode.support.x)
        quick, _ = partition(own, fast)
        begun = learned.optimizer(params["hyper"]).init(quick)
        return Trajectory(jnp.int32(0), jnp.bool_(False), quick, begun, episode), state

    def carry(params: PyTree, state: PyTree, episode: Episode, key: Key) -> Trajectory:
        start_key, place_key = jax.random.split(key)
        begun, _ = start(params, episode, start_key)
        if horizon is None:
            return begun
        place = jax.random.randint(place_key, (), 0, horizon // stretch, jnp.int32)
        return begun._replace(step=stretch * place)

    def task_loss(params: PyTree, state: PyTree, task: Carried, key: Key) -> tuple[Array, Report]:
        params, task, key = varying_alike(params, task, key)
        start_key, steps_key = jax.random.split(key)
        fresh, statistics = start(params, task.task, start_key)
        now: Trajectory = jax.tree.map(
            lambda new, old: jnp.where(task.carry.done, new, old), fresh, task.carry
        )
        if renewed:
            now = now._replace(episode=task.task)
        transformation = learned.optimizer(params["hyper"])
        present = None if ways is None else present_classes(now.episode.support, ways)

        def loss_on(batch: Batch, quick: PyTree, key: Key) -> Array:
            whole = merge(quick, params["model"]) if "model" in params else quick
            outputs, _ = model.apply(whole, statistics, batch.x, batch.mask, key)
            return support_loss(loss, outputs, batch, present)

        support = jax.value_and_grad(lambda quick, key: loss_on(now.episode.support, quick, key))

        def one_step(carry: tuple[PyTree, PyTree], key: Key) -> tuple[tuple[PyTree, PyTree], Array]:
            support_key, query_key = jax.random.split(key)
            step = inner_step(support, transformation, *carry, support_key, first_order)
            quick, optimizer_state, _ = step
            return (quick, optimizer_state), loss_on(now.episode.query, quick, query_key)

        keys = jax.random.split(steps_key, stretch)
        (quick, optimizer_state), losses = jax.lax.scan(one_step, (now.fast, now.optimizer), keys)
        step = now.step + stretch
        done = now.done & False if horizon is None else step >= horizon
        after = Trajectory(step, done, quick, optimizer_state, now.episode)
        return jnp.mean(losses), Report(metrics={"final_loss": losses[-1]}, carry=after)

    return Objective(init, task_loss, carry=carry)
