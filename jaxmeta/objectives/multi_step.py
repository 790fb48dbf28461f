"""MAML++'s objective: the query loss after every inner step, and in time only after the last."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxmeta.learners.maml_plus_plus import State, after
from jaxmeta.objectives.tasks import judge, over_tasks
from jaxmeta.types import Array, Aux, Episode, Key, Learner, Loss, Metrics, Objective, PyTree


def multi_step(
    learner: Learner,
    loss: Loss,
    metrics: Mapping[str, Loss] | None = None,
    decay: float = 0.9,
    *,
    annealing_steps: int,
) -> Objective:
    r"""A weighted sum of the query losses after 1, ..., T inner steps.

    .. math:: \ell_i = \sum_{t=1}^{T} w_t\, L\big(\theta_t^{(i)};\, \text{query}_i\big), \qquad
              w_{t<T} = \frac{1 - a}{T}, \quad w_T = 1 - \sum_{t<T} w_t

    where a grows from 0 to 1 over the annealing steps: all steps count alike at first, and only
    the last in the end. (The authors' code stops at weights a little above zero.) The query set is
    looked at after every step all along, unless there is no annealing and no step has averages of
    its own.

    Args:
      learner: a :func:`jaxmeta.learners.maml_plus_plus`; its outer steps are counted here.
      loss: the loss of the query set.
      metrics: further figures of the query set to report, by name, after the last step.
      decay: of the running averages, as in :func:`jaxmeta.objectives.episodic`; those of each step
        move towards the statistics of the query set after that step.
      annealing_steps: outer steps until only the last counts; with 0 it does from the start.

    Returns:
      An objective over episodes ``[k, ...]``; the reported ``loss`` is that after the last step.

    Raises:
      ValueError: ``annealing_steps`` is negative or ``decay`` outside [0, 1] or, when called, the
        learner is of another kind.

    References:
      Antoniou, Edwards and Storkey, 2019, How to Train Your MAML, equation 4 and section 4.
    """
    if annealing_steps < 0:
        raise ValueError(f"annealing_steps is {annealing_steps}: give 0 or more.")
    judged = judge(learner, loss, metrics)

    def task(
        params: PyTree, state: State, episode: Episode, key: Key
    ) -> tuple[Array, PyTree, Metrics]:
        adapt_key, predict_key = jax.random.split(key)
        adapted, reported = learner.adapt(params, state, episode.support, adapt_key)
        steps = len(adapted.path) - 1
        value, used, figures = judged(params, state, adapted, episode.query, predict_key)
        total = value
        progress = jnp.clip(state.outer_step / max(annealing_steps, 1), 0, 1)
        averages = jax.tree.leaves(state.model)
        of_each_step = bool(averages) and averages[0].shape[0] > 1
        for step in range(steps):
            weighed = step > 0 and annealing_steps > 0
            if not weighed and not of_each_step:
                continue
            earlier, at_step, _ = judged(
                params, state, after(adapted, step), episode.query, predict_key
            )
            if of_each_step:  # row 0 too, for the first step's support set
                used = jax.tree.map(lambda a, b, old: a + b - old, used, at_step, state)
            if weighed:
                total += (1 - progress) / steps * (earlier - value)
        return total, used, {**reported, **figures}

    average = over_tasks(task, decay)

    def objective(
        params: PyTree, state: State, episodes: Episode, keys: Key, weights: Array | None = None
    ) -> tuple[Array, Aux]:
        if not isinstance(state, State):
            raise ValueError(
                "multi_step weighs the inner steps of MAML++: give it a maml_plus_plus learner."
            )
        # What is added up from shares is whole to rounding only.
        state = state._replace(outer_step=jnp.round(state.outer_step))
        losses, aux = average(params, state, episodes, keys, weights)
        share = 1 if weights is None else jnp.sum(weights)
        counted = aux.state._replace(outer_step=share * (state.outer_step + 1))
        return losses, aux._replace(state=counted)

    return objective
