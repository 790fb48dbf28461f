"""What objectives over episodes share: the loss and the metrics of the query set."""

from collections.abc import Callable, Mapping

import jax

from jaxmeta.types import Array, Batch, Episode, Key, Learner, Loss, Metrics, PyTree

QueryLoss = Callable[[PyTree, PyTree, PyTree, Batch, Key], tuple[Array, PyTree, Metrics]]
"""``(params, state, adapted, query, key) -> (loss, statistics, metrics)``."""


def query_loss(learner: Learner, loss: Loss, metrics: Mapping[str, Loss] | None) -> QueryLoss:
    """The loss of an adapted learner on the queries of a task.

    Args:
      learner: predicts, with noise if it has any.
      loss: the loss of the query set.
      metrics: further metrics of the query set, by name.

    Returns:
      See :data:`QueryLoss`; the loss is among the metrics.
    """

    def of_queries(
        params: PyTree, state: PyTree, adapted: PyTree, query: Batch, key: Key
    ) -> tuple[Array, PyTree, Metrics]:
        outputs, statistics = learner.predict(params, state, adapted, query.x, query.mask, key)
        value = loss(outputs, query.y, query.mask)
        reported = {
            name: metric(outputs, query.y, query.mask) for name, metric in (metrics or {}).items()
        }
        return value, statistics, {**reported, "loss": value}

    return of_queries


def init_of(learner: Learner) -> Callable[[Key, Episode], tuple[PyTree, PyTree]]:
    """The ``init`` of an objective over episodes."""

    def init(key: Key, episode: Episode) -> tuple[PyTree, PyTree]:
        check_episode(episode)
        return learner.init(key, episode)

    return init


def check_episode(episode: Episode) -> None:
    """Raises ``ValueError`` if a task is not an episode, or if its two sets differ in shape."""
    if not isinstance(episode, Episode):
        raise ValueError(
            f"The objective is of episodes and the task is a {type(episode).__name__}: draw it by "
            "source.episodes, or take an objective of such tasks."
        )
    support, query = (
        jax.tree.map(lambda leaf: leaf.shape[1:], batch.x)
        for batch in (episode.support, episode.query)
    )
    if support != query:
        raise ValueError(
            f"Support examples have shape {support} but query examples have shape {query}: an "
            "episode needs both alike."
        )
