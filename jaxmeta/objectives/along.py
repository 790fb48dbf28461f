"""The query loss along the path of an inner loop, not only at its end."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jaxmeta.objectives.averages import running_average
from jaxmeta.objectives.queries import check_episode, init_of, query_loss
from jaxmeta.types import Array, Episode, Key, Learner, Loss, Objective, PyTree, Report

Weights = Callable[[PyTree, int], Array]
"""``(state, steps T) -> weights [T + 1]`` of the query losses after 0, ..., T inner steps."""


def evenly(state: PyTree, steps: int) -> Array:
    """The same weight for the losses after every step, which sum to 1; none before the first.

    >>> evenly((), 4).tolist()
    [0.0, 0.25, 0.25, 0.25, 0.25]
    """
    return jnp.full(steps + 1, 1 / max(steps, 1)).at[0].set(0)


def along(
    learner: Learner,
    loss: Loss,
    weights: Weights,
    metrics: Mapping[str, Loss] | None = None,
    decay: float = 0.9,
) -> Objective:
    r"""A weighted sum of the query losses after 0, 1, ..., T inner steps.

    .. math:: \ell_i = \sum_{t=0}^{T} w_t\, L\big(\mathrm{predict}(\theta_t^{(i)}, x_i),\, y_i\big)

    Args:
      learner: a learner with a ``path``, such as :func:`~jaxmeta.learners.maml`.
      loss: the loss of the query set.
      weights: ``(state, T) -> [T + 1]``, such as :func:`evenly`; they may depend on the state, for
        example to anneal them.
      metrics: further metrics of the query set to report, by name, after the last step.
      decay: decay of the running averages, as in :func:`jaxmeta.objectives.episodic`; they follow
        the statistics of the query set after the last step.

    Returns:
      An objective over episodes; the reported ``loss`` is the one after the last step.

    Raises:
      ValueError: the learner has no path, ``decay`` is outside [0, 1] or, when called, there is
        not one weight for each loss.

    References:
      Andrychowicz et al., 2016, Learning to Learn by Gradient Descent by Gradient Descent,
      equation 3.

    >>> from jaxmeta.learners import maml
    >>> from jaxmeta.losses import cross_entropy
    >>> from jaxmeta.nn import mlp
    >>> objective = along(maml(mlp(5), ways=5, steps=3), cross_entropy, evenly)
    """
    task_loss = path_loss(learner, loss, weights, metrics)
    average = running_average(decay)

    def update(state: PyTree, params: PyTree, statistics: PyTree) -> PyTree:
        return average(state, params, jax.tree.map(lambda leaf: leaf[-1], statistics))

    return Objective(init_of(learner), task_loss, update)


def path_loss(
    learner: Learner, loss: Loss, weights: Weights, metrics: Mapping[str, Loss] | None
) -> Callable[[PyTree, PyTree, Episode, Key], tuple[Array, Report]]:
    """The loss of :func:`along`; statistics are reported for each step, ``[T + 1, ...]``."""
    path = learner.path
    if path is None:
        raise ValueError(
            "The learner does not say its path: give one that does, such as maml or fine_tuning, "
            "or take the objective `episodic`."
        )
    of_queries = query_loss(learner, loss, metrics)

    def task_loss(
        params: PyTree, state: PyTree, episode: Episode, key: Key
    ) -> tuple[Array, Report]:
        check_episode(episode)
        adapt_key, predict_key = jax.random.split(key)
        adapted, adaptation = path(params, state, episode.support, adapt_key)
        # One step after the other, as each uses the whole query set.
        values, statistics, reported = jax.lax.map(
            lambda row: of_queries(params, state, row, episode.query, predict_key), adapted
        )
        chosen = weights(state, values.shape[0] - 1)
        if jnp.shape(chosen) != values.shape:
            raise ValueError(
                f"The weights of the losses along the path have shape {jnp.shape(chosen)}: give "
                f"one for each of {values.shape[0]} losses, before the first step and after each."
            )
        last = jax.tree.map(lambda leaf: leaf[-1], reported)
        return jnp.sum(chosen * values), Report(statistics, {**adaptation, **last})

    return task_loss
