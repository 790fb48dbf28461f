"""MAML++'s objective: the query loss after every inner step, annealed to only the last."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.learners.maml_plus_plus import State
from jaxmeta.objectives.along import path_loss
from jaxmeta.objectives.averages import running_average
from jaxmeta.objectives.queries import init_of
from jaxmeta.types import Array, Episode, Key, Learner, Loss, Objective, PyTree, Report


def multi_step(
    learner: Learner,
    loss: Loss,
    metrics: Mapping[str, Loss] | None = None,
    decay: float = 0.9,
    *,
    annealing_steps: int,
    early: Learner | None = None,
    early_steps: int = 0,
) -> Objective:
    r"""A weighted sum of the query losses after 1, ..., T inner steps.

    .. math:: \ell_i = \sum_{t=1}^{T} w_t\, L\big(\theta_t^{(i)};\, \text{query}_i\big), \qquad
              w_{t<T} = \frac{1 - a}{T}, \quad w_T = 1 - \sum_{t<T} w_t

    where a grows from 0 to 1 over the annealing steps: all steps count equally at first, and only
    the last in the end. (The authors' code stops at weights a little above zero.)

    Args:
      learner: a :func:`jaxmeta.learners.maml_plus_plus`; its outer steps are counted here.
      loss: the loss of the query set.
      metrics: further metrics of the query set to report, by name, after the last step.
      decay: decay of the running averages, as in :func:`jaxmeta.objectives.episodic`; the averages
        of each inner step follow the statistics of the query set after that step.
      annealing_steps: number of outer steps until only the last inner step counts; with 0, only it
        counts from the start.
      early: a learner with the same parameters that adapts in the first outer steps instead. With
        ``maml_plus_plus(..., first_order=True)``, it gives the paper's annealing of the derivative
        order.
      early_steps: number of outer steps that use ``early``.

    Returns:
      An objective over episodes; the reported ``loss`` is the one after the last step.

    Raises:
      ValueError: ``annealing_steps`` or ``early_steps`` is not a count, there are early steps but
        no learner for them, ``decay`` is outside [0, 1] or, when called, the learner is of another
        kind.

    References:
      Antoniou, Edwards and Storkey, 2019, How to Train Your MAML, equation 4 and section 4.

    >>> from jaxmeta.learners import maml_plus_plus
    >>> from jaxmeta.losses import cross_entropy
    >>> from jaxmeta.nn import mlp
    >>> learner = maml_plus_plus(mlp(5), ways=5)
    >>> objective = multi_step(learner, cross_entropy, annealing_steps=500)
    """
    check_count("annealing_steps", annealing_steps)
    check_count("early_steps", early_steps)
    if early_steps and early is None:
        raise ValueError(
            f"early_steps is {early_steps}, but no learner is given for them: give `early`, or "
            "leave early_steps out."
        )

    def weights(state: State, steps: int) -> Array:
        progress = jnp.clip(state.outer_step.astype(jnp.float32) / max(annealing_steps, 1), 0, 1)
        progress = progress if annealing_steps else jnp.ones(())
        early = (1 - progress) / max(steps, 1)
        # The loss before the first step does not count, unless there is no step.
        row = jnp.full(steps + 1, early).at[0].set(0)
        return row.at[steps].set(1 - (steps - 1) * early if steps else 1)

    late_loss = path_loss(learner, loss, weights, metrics)
    early_loss = late_loss if early is None else path_loss(early, loss, weights, metrics)
    average = running_average(decay)

    def task_loss(params: PyTree, state: State, episode: Episode, key: Key) -> tuple[Array, Report]:
        if not isinstance(state, State):
            raise ValueError(
                "multi_step weighs the inner steps of MAML++: give it a maml_plus_plus learner."
            )
        given = (params, state, episode, key)
        if not early_steps:
            return late_loss(*given)
        is_early = state.outer_step < early_steps
        outcome: tuple[Array, Report] = jax.lax.cond(is_early, early_loss, late_loss, *given)
        return outcome

    def update(state: State, params: PyTree, statistics: State) -> State:
        def of_own_step(rows: Array) -> Array:
            """Row t of what was seen after t inner steps, ``[T + 1, rows, ...]`` to ``[rows]``."""
            places = jnp.arange(rows.shape[1])
            return rows[jnp.minimum(places, rows.shape[0] - 1), places]

        # Without per-step statistics there is one row, which follows those of the last step.
        own = jax.tree.map(
            lambda rows: of_own_step(rows) if rows.shape[1] > 1 else rows[-1], statistics.model
        )
        model = average(state.model, params, own)
        return State(model, state.outer_step + 1)

    return Objective(init_of(learner), task_loss, update)
