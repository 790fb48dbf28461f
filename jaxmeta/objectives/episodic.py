"""From a Learner to an Objective: adapt on the support set, be judged on the query set."""

from collections.abc import Mapping

import jax

from jaxmeta.objectives.tasks import judge, over_tasks
from jaxmeta.types import Array, Episode, Key, Learner, Loss, Metrics, Objective, PyTree


def episodic(
    learner: Learner,
    loss: Loss,
    metrics: Mapping[str, Loss] | None = None,
    decay: float = 0.9,
) -> Objective:
    r"""The query loss after adaptation, one for each task of a meta-batch.

    .. math:: \ell_i = L\big(\mathrm{predict}(\mathrm{adapt}(\text{support}_i), x_i),\, y_i\big)

    Args:
      learner: solves one task; it is mapped over the tasks here.
      loss: the loss of the query set.
      metrics: further figures of the query set to report, by name.
      decay: of the running averages in ``state``: each call moves them by ``1 - decay`` towards the
        mean over tasks of the statistics that normalized the query sets.

    Returns:
      An objective over episodes ``[k, ...]``; it reports the means over tasks of ``loss``, of
      ``metrics``, and of what the learner reports of its adaptation.

    Raises:
      ValueError: ``decay`` lies outside [0, 1] or, when called, the shapes of the support and query
        examples differ.
    """
    judged = judge(learner, loss, metrics)

    def task(
        params: PyTree, state: PyTree, episode: Episode, key: Key
    ) -> tuple[Array, PyTree, Metrics]:
        adapt_key, predict_key = jax.random.split(key)
        adapted, reported = learner.adapt(params, state, episode.support, adapt_key)
        value, used, figures = judged(params, state, adapted, episode.query, predict_key)
        return value, used, {**reported, **figures}

    return over_tasks(task, decay)
