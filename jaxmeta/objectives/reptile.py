"""Reptile as an Objective: move the initialization towards the adapted parameters."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxmeta.learners.frames.gradient import Adapted
from jaxmeta.objectives.averages import running_average
from jaxmeta.objectives.queries import check_episode, init_of, query_loss
from jaxmeta.types import Array, Episode, Key, Learner, Loss, Objective, PyTree, Report


def reptile(
    learner: Learner, loss: Loss, metrics: Mapping[str, Loss] | None = None, decay: float = 0.9
) -> Objective:
    r"""Half the squared distance to the adapted parameters, which are held fixed.

    .. math:: \ell_i = \tfrac12 \lVert \theta - \bar\theta_i \rVert^2, \qquad
              \nabla_\theta \frac1k \sum_i \ell_i = \theta - \frac1k \sum_i \bar\theta_i

    where :math:`\bar\theta_i` are the parameters adapted to task i. Minimizing it with
    ``optax.sgd(epsilon)`` is Reptile: the serial version with one task per step, the batched one
    with k.

    Args:
      learner: a learner made by :func:`jaxmeta.learners.gradient_learner`, such as
        :func:`jaxmeta.learners.reptile`.
      loss: loss of the query set; reported, not minimized.
      metrics: further metrics of the query set to report, by name.
      decay: decay of the running averages, as in :func:`jaxmeta.objectives.episodic`.

    Returns:
      An objective over episodes; it reports the same as ``episodic``.

    Raises:
      ValueError: when called, the learner is of another kind.

    References:
      Nichol, Achiam and Schulman, 2018, On First-Order Meta-Learning Algorithms, algorithms 1
      (serial) and 2 (batched).

    >>> from jaxmeta import learners
    >>> from jaxmeta.losses import cross_entropy
    >>> from jaxmeta.nn import mlp
    >>> objective = reptile(learners.reptile(mlp(5), ways=5), cross_entropy)
    """
    of_queries = query_loss(learner, loss, metrics)

    def task_loss(
        params: PyTree, state: PyTree, episode: Episode, key: Key
    ) -> tuple[Array, Report]:
        check_episode(episode)
        adapt_key, predict_key = jax.random.split(key)
        fixed = jax.lax.stop_gradient(params)
        adapted, adaptation = learner.adapt(fixed, state, episode.support, adapt_key)
        if not isinstance(adapted, Adapted):
            raise ValueError(
                "Reptile moves a model's parameters to where an inner loop took them: give it a "
                "learner made by gradient_learner."
            )
        _, statistics, reported = of_queries(fixed, state, adapted, episode.query, predict_key)
        apart = jax.tree.map(
            lambda there, here: jnp.zeros(()) if there is None else jnp.sum((here - there) ** 2),
            adapted.fast,
            params["model"],
            is_leaf=lambda leaf: leaf is None,
        )
        distance = jax.tree.reduce(jnp.add, apart) / 2
        return distance, Report(statistics, {**adaptation, **reported})

    return Objective(init_of(learner), task_loss, running_average(decay))
