"""From a Learner to an Objective: adapt to the support set, compute the query set's loss."""

from collections.abc import Mapping

import jax

from jaxmeta.objectives.averages import running_average
from jaxmeta.objectives.queries import check_episode, init_of, query_loss
from jaxmeta.types import Array, Episode, Key, Learner, Loss, Objective, PyTree, Report


def episodic(
    learner: Learner,
    loss: Loss,
    metrics: Mapping[str, Loss] | None = None,
    decay: float = 0.9,
) -> Objective:
    r"""The query loss after adaptation.

    .. math:: \ell_i = L\big(\mathrm{predict}(\mathrm{adapt}(\text{support}_i), x_i),\, y_i\big)

    Args:
      learner: solves one task.
      loss: the loss of the query set.
      metrics: further metrics of the query set to report, by name.
      decay: decay of the running averages in ``state``, which follow the statistics that normalize
        the query sets; see :func:`jaxmeta.objectives.running_average`.

    Returns:
      An objective over episodes. It reports ``loss``, ``metrics``, and the learner's metrics of its
      adaptation.

    Raises:
      ValueError: ``decay`` is outside [0, 1] or, when called, support and query examples differ
        in shape.

    >>> from jaxmeta.learners import prototypical
    >>> from jaxmeta.losses import accuracy, cross_entropy
    >>> from jaxmeta.nn import mlp
    >>> learner = prototypical(mlp(4), ways=5)
    >>> objective = episodic(learner, cross_entropy, {"accuracy": accuracy})
    """
    of_queries = query_loss(learner, loss, metrics)

    def task_loss(
        params: PyTree, state: PyTree, episode: Episode, key: Key
    ) -> tuple[Array, Report]:
        check_episode(episode)
        adapt_key, predict_key = jax.random.split(key)
        adapted, adaptation = learner.adapt(params, state, episode.support, adapt_key)
        value, statistics, reported = of_queries(params, state, adapted, episode.query, predict_key)
        return value, Report(statistics, {**adaptation, **reported})

    return Objective(init_of(learner), task_loss, running_average(decay))
