"""The gradient of the mean loss."""

import jax
import jax.numpy as jnp

from jaxmeta.gradients.estimator import (
    Estimator,
    PerTask,
    Totals,
    reduce_reports,
    task_losses,
)
from jaxmeta.types import Array, Key, Objective, PyTree, Report


def mean() -> Estimator:
    r"""The gradient of the mean loss, :math:`\nabla \frac1k \sum_i \ell_i(\theta)`.

    It is accumulated: nothing is kept for single tasks.

    >>> from jaxmeta.types import Objective, Report
    >>> from jaxmeta.gradients import estimate
    >>> squares = Objective(
    ...     init=lambda key, task: (jnp.zeros(()), ()),
    ...     loss=lambda params, state, task, key: ((params - task) ** 2 / 2, Report()),
    ... )
    >>> keys = jax.random.split(jax.random.key(0), 3)
    >>> gradient, report = estimate(squares)(jnp.ones(()), (), jnp.arange(3.0), keys)
    >>> gradient.item()
    0.0
    """

    def each(
        objective: Objective,
        params: PyTree,
        state: PyTree,
        tasks: PyTree,
        keys: Key,
        weights: Array,
    ) -> tuple[Totals, PerTask]:
        def weighted_loss(params: PyTree) -> tuple[Array, Report]:
            losses, reports = task_losses(objective, params, state, tasks, keys)
            return jnp.sum(losses * weights.astype(losses.dtype)), reports

        gradient, reports = jax.grad(weighted_loss, has_aux=True)(params)
        return reduce_reports(gradient, reports, weights), PerTask((), reports.carry)

    return Estimator(each, combine=lambda gradient, per_task, key: gradient)
