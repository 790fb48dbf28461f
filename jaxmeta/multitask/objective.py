"""The objective of multi-task learning: a classifier of batches that say their task."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.learners.frames.support import labeled
from jaxmeta.losses import cross_entropy
from jaxmeta.multitask.per_task import check_tasked
from jaxmeta.objectives import changes, running_average_of_tasks
from jaxmeta.types import Array, Batch, Key, Loss, Model, Objective, PyTree, Report


def multitask(
    model: Model,
    loss: Loss = cross_entropy,
    metrics: Mapping[str, Loss] | None = None,
    *,
    decay: float = 0.9,
) -> Objective:
    r"""The loss of a batch of one task; the outer loop takes the mean over tasks.

    .. math:: \ell(\theta) = \frac1k \sum_{i=1}^k L\big(f_\theta(x_i, t_i), y_i\big)

    Examples that are labeled -1 have no label, and count only in statistics of the batch.

    Where a step has every task once, estimators such as :func:`jaxmeta.gradients.pcgrad` weigh the
    tasks' gradients.

    Args:
      model: a model over :class:`~jaxmeta.types.Tasked` inputs, such as
        :func:`jaxmeta.multitask.hard_sharing`.
      loss: the loss of a batch.
      metrics: metrics of a batch, by name.
      decay: decay of the running averages of the model's statistics; see
        :func:`jaxmeta.objectives.running_average_of_tasks`.

    Returns:
      An objective over the batches of a :func:`jaxmeta.data.task_source`, with parameters and state
      ``{"model": ...}``.

    Raises:
      ValueError: ``decay`` is outside [0, 1] or, when called, the task is no such batch.

    References:
      Caruana, 1997, Multitask Learning.

    >>> from jaxmeta.multitask import hard_sharing
    >>> from jaxmeta.nn import mlp
    >>> objective = multitask(hard_sharing(mlp(8), mlp(2, hidden=()), tasks=3))
    """
    average = running_average_of_tasks(decay)

    def init(key: Key, batch: Batch) -> tuple[PyTree, PyTree]:
        check_batch(batch)
        params, state = model.init(key, batch.x)
        return {"model": params}, {"model": state}

    def of_batch(params: PyTree, state: PyTree, batch: Batch, key: Key) -> tuple[Array, Report]:
        inputs = params["model"], state["model"], batch.x, batch.mask, key
        outputs, used = model.apply(*inputs)
        mask = labeled(batch)
        seen = {name: each(outputs, batch.y, mask) for name, each in (metrics or {}).items()}
        return loss(outputs, batch.y, mask), Report(changes(state, {"model": used}), seen)

    return Objective(init, of_batch, average)


def check_batch(batch: Any) -> None:
    """Raises ``ValueError`` unless a task is a batch that says its task."""
    if not isinstance(batch, Batch):
        raise ValueError(
            f"The objective is of batches and the task is a {type(batch).__name__}: draw it by "
            "source.batches, in a config by sample = {'batches': 64}."
        )
    check_tasked(batch.x)


def by_uncertainty(objective: Objective, tasks: int) -> Objective:
    r"""Weighs tasks by the uncertainty of their losses, which is learned.

    .. math:: \ell_t = \frac{L_t}{2 e^{s_t}} + \frac{s_t}{2}

    At the best s, :math:`e^{s_t} = L_t`, so the gradient of the other parameters is that of
    :math:`\tfrac12 \log L_t`: a task counts by how its loss changes in proportion.

    Args:
      objective: an objective over batches of one task each, such as :func:`multitask`.
      tasks: number of tasks.

    Returns:
      An objective with the further parameters ``"log_variance"`` ``[tasks]``, which start at -0.5.
      It reports the ``weight`` :math:`e^{-s_t} / 2`, averaged over tasks, and as its ``loss`` the
      one that is weighed.

    Raises:
      ValueError: ``tasks`` is not a positive integer.

    References:
      Kendall, Gal and Cipolla, 2018, Multi-Task Learning Using Uncertainty to Weigh Losses,
      equation 7; the start is LibMTL's.

    >>> from jaxmeta.multitask import hard_sharing
    >>> from jaxmeta.nn import mlp
    >>> network = hard_sharing(mlp(8), mlp(2, hidden=()), tasks=3)
    >>> objective = by_uncertainty(multitask(network), tasks=3)
    """
    check_count("tasks", tasks, least=1)

    def init(key: Key, batch: Batch) -> tuple[PyTree, PyTree]:
        params, state = objective.init(key, batch)
        return {**params, "log_variance": jnp.full(tasks, -0.5, jnp.float32)}, state

    def loss(params: PyTree, state: PyTree, batch: Batch, key: Key) -> tuple[Array, Report]:
        own = {name: each for name, each in params.items() if name != "log_variance"}
        value, report = objective.loss(own, state, batch, key)
        log_variance = params["log_variance"][batch.x.task[0]]
        weight = jnp.exp(-log_variance) / 2
        metrics = {**report.metrics, "loss": value, "weight": weight}
        # A batch without a label says nothing about how uncertain its task is.
        known = jnp.any(labeled(batch) > 0).astype(value.dtype)
        return known * (weight * value + log_variance / 2), report._replace(metrics=metrics)

    return objective._replace(init=init, loss=loss)
