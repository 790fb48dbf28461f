"""The interface of estimators of the outer gradient, and what all of them share."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from jaxmeta.distributed.microbatches import vmap_tasks, weighted_sum
from jaxmeta.types import Array, Key, Metrics, Objective, PyTree, Report


class Totals(NamedTuple):
    """What is summed over all tasks of a step, each weighted by its share of the mean.

    Attributes:
      values: what the estimator sums: usually gradients.
      statistics: mean of the tasks' statistics.
      metrics: mean of the tasks' metrics.
    """

    values: PyTree
    statistics: PyTree
    metrics: Metrics


class PerTask(NamedTuple):
    """What stays with each task, with a leading axis of tasks.

    Attributes:
      values: what the estimator needs from each task, such as its gradient.
      carry: what the tasks carry over to their next step.
    """

    values: PyTree
    carry: PyTree


class Estimator(NamedTuple):
    """How the gradient of the outer loop is estimated from the losses of single tasks.

    Attributes:
      each: ``(objective, params, state, tasks, keys, weights) -> (Totals, PerTask)``, computed on
        one share of the tasks; the totals of all shares are added. The weights ``[k]`` sum to 1
        over all shares; 0 marks a copy that pads the last share, which is dropped from ``PerTask``.
      combine: ``(totals.values, per_task.values, key) -> gradient``, computed once, identically on
        every device, from the totals and the values of *all* tasks.
    """

    each: Callable[[Objective, PyTree, PyTree, PyTree, Key, Array], tuple[Totals, PerTask]]
    combine: Callable[[PyTree, PyTree, Key | None], PyTree]


def task_losses(
    objective: Objective, params: PyTree, state: PyTree, tasks: PyTree, keys: Key
) -> tuple[Array, Report]:
    """The losses of several tasks and their reports, with the loss among the metrics.

    A ``"loss"`` that an objective itself reports, as Reptile does, replaces the one it minimizes.

    Args:
      objective: what is minimized.
      params: its parameters, shared by all tasks.
      state: its state, likewise.
      tasks: a share of the tasks, ``[k, ...]``.
      keys: ``[k]``, the randomness of each.

    Returns:
      ``(losses [k], reports [k, ...])``; no gradient goes through the reports.

    >>> import jax.numpy as jnp
    >>> squares = Objective(
    ...     init=lambda key, task: (jnp.zeros(()), ()),
    ...     loss=lambda params, state, task, key: ((params - task) ** 2, Report()),
    ... )
    >>> keys = jax.random.split(jax.random.key(0), 2)
    >>> losses, reports = task_losses(squares, jnp.float32(1), (), jnp.array([1.0, 4.0]), keys)
    >>> losses.tolist(), reports.metrics["loss"].tolist()
    ([0.0, 9.0], [0.0, 9.0])
    """

    def one(common: tuple[PyTree, PyTree], task: PyTree, key: Key) -> tuple[Array, Report]:
        loss, report = objective.loss(*common, task, key)
        report = report._replace(metrics={"loss": loss, **report.metrics})
        return loss, jax.lax.stop_gradient(report)

    return vmap_tasks(one)((params, state), tasks, keys)


def reduce_reports(values: PyTree, reports: Report, weights: Array) -> Totals:
    """The totals of one share: summed values, and the weighted sums of what was reported.

    Args:
      values: what the estimator sums, already summed over the share.
      reports: the tasks' reports, ``[k, ...]``, as returned by :func:`task_losses`.
      weights: ``[k]``, which sum to 1 over all tasks of a step.

    >>> import jax.numpy as jnp
    >>> reports = Report(statistics=jnp.array([2.0, 6.0]), metrics={"loss": jnp.array([0.0, 9.0])})
    >>> totals = reduce_reports((), reports, weights=jnp.array([0.5, 0.5]))
    >>> totals.statistics.item(), totals.metrics["loss"].item()
    (4.0, 4.5)
    """
    return Totals(values, *weighted_sum((reports.statistics, reports.metrics), weights))
