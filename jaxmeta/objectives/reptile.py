"""Reptile as an Objective: move the initialization towards the adapted parameters."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxmeta.learners.frames.gradient import Adapted
from jaxmeta.objectives.tasks import judge, over_tasks
from jaxmeta.types import Array, Episode, Key, Learner, Loss, Metrics, Objective, PyTree


def reptile(
    learner: Learner, loss: Loss, metrics: Mapping[str, Loss] | None = None, decay: float = 0.9
) -> Objective:
    r"""Half the squared distance to the adapted parameters, which are held fixed.

    .. math:: \ell_i = \tfrac12 \lVert \theta - \bar\theta_i \rVert^2, \qquad
              \nabla_\theta \frac1k \sum_i \ell_i = \theta - \frac1k \sum_i \bar\theta_i

    where :math:`\bar\theta_i` is what the learner adapted to task i. Descending it with
    ``optax.sgd(epsilon)`` is Reptile: the serial version with one task a step, the batched one with
    k.

    Args:
      learner: one that :func:`jaxmeta.learners.gradient_learner` made, such as
        :func:`jaxmeta.learners.reptile`.
      loss: of the query set; reported, not minimized.
      metrics: further figures of the query set to report, by name.
      decay: of the running averages, as in :func:`jaxmeta.objectives.episodic`.

    Returns:
      An objective over episodes ``[k, ...]``; it reports what ``episodic`` does.

    Raises:
      ValueError: when called, the learner is of another kind.

    References:
      Nichol, Achiam and Schulman, 2018, On First-Order Meta-Learning Algorithms, algorithms 1
      (serial) and 2 (batched).
    """
    judged = judge(learner, loss, metrics)

    def task(
        params: PyTree, state: PyTree, episode: Episode, key: Key
    ) -> tuple[Array, PyTree, Metrics]:
        adapt_key, predict_key = jax.random.split(key)
        fixed = jax.lax.stop_gradient(params)
        adapted, reported = learner.adapt(fixed, state, episode.support, adapt_key)
        if not isinstance(adapted, Adapted):
            raise ValueError(
                "Reptile moves a model's parameters to where an inner loop took them: give it a "
                "learner made by gradient_learner."
            )
        _, used, figures = judged(fixed, state, adapted, episode.query, predict_key)
        apart = jax.tree.map(
            lambda there, here: jnp.zeros(()) if there is None else jnp.sum((here - there) ** 2),
            adapted.fast,
            params["model"],
            is_leaf=lambda leaf: leaf is None,
        )
        distance = jax.tree.reduce(jnp.add, apart) / 2
        return distance, used, {**reported, **figures}

    return over_tasks(task, decay)
