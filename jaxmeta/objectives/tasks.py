"""What objectives over tasks share: mapping over them, and the means that are reported."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jaxmeta.distributed.microbatches import weighted
from jaxmeta.types import Array, Aux, Episode, Key, Learner, Loss, Metrics, Objective, PyTree

Task = Callable[[PyTree, PyTree, Episode, Key], tuple[Array, PyTree, Metrics]]
"""``(params, state, episode, key) -> (loss, statistics, metrics)`` of one task."""


def over_tasks(task: Task, decay: float) -> Objective:
    """Maps the loss of one task over those of a batch.

    Args:
      task: its statistics have the structure of ``state``.
      decay: of the running averages in ``state``: each call moves them by ``1 - decay`` towards the
        mean of the statistics over tasks.

    Raises:
      ValueError: ``decay`` lies outside [0, 1] or, when called, the shapes of the support and query
        examples differ.
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"decay is {decay}: give the share, from 0 to 1, that averages keep.")

    def objective(
        params: PyTree, state: PyTree, episodes: Episode, keys: Key, weights: Array | None = None
    ) -> tuple[Array, Aux]:
        check_episode(episodes)
        if keys.shape[0] == 1:
            # An axis of one keeps XLA from fusing what it fuses without.
            alone = task(params, state, *jax.tree.map(lambda leaf: leaf[0], (episodes, keys)))
            losses, used, figures = jax.tree.map(lambda leaf: leaf[None], alone)
        else:
            losses, used, figures = jax.vmap(task, in_axes=(None, None, 0, 0))(
                params, state, episodes, keys
            )
        share = 1 if weights is None else jnp.sum(weights)
        new_state = jax.tree.map(
            lambda old, new: decay * share * old + (1 - decay) * new,
            state,
            weighted(used, weights),
        )
        figures = weighted(figures, weights)
        return losses, jax.lax.stop_gradient(Aux(new_state, figures))

    return objective


def judge(
    learner: Learner, loss: Loss, metrics: Mapping[str, Loss] | None
) -> Callable[..., tuple[PyTree, PyTree, Metrics]]:
    """How an adapted learner answers the queries of a task.

    Returns:
      ``(params, state, adapted, query, key) -> (loss, statistics, metrics)``, the loss being among
      the metrics.
    """

    def judged(
        params: PyTree, state: PyTree, adapted: PyTree, query: PyTree, key: Key
    ) -> tuple[Array, PyTree, Metrics]:
        outputs, used = learner.predict(params, state, adapted, query.x, query.mask, key)
        value = loss(outputs, query.y, query.mask)
        figures = {
            name: figure(outputs, query.y, query.mask) for name, figure in (metrics or {}).items()
        }
        return value, used, {**figures, "loss": value}

    return judged


def check_episode(episodes: Episode) -> None:
    """Raises ``ValueError`` when support and query examples of ``[k, n, ...]`` differ in shape."""
    support, query = (
        jax.tree.map(lambda leaf: leaf.shape[2:], batch.x)
        for batch in (episodes.support, episodes.query)
    )
    if support != query:
        raise ValueError(
            f"Support examples have shape {support} but query examples have shape {query}: an "
            "episode needs both alike."
        )
