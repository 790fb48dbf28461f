"""Running an estimator in chunks that fit into memory, over devices."""

from typing import Protocol

import jax

from jaxmeta.checks import check_count
from jaxmeta.distributed.memory import tasks_at_a_time
from jaxmeta.distributed.microbatches import (
    Mapped,
    Spread,
    even_weights,
    in_chunks,
    one_device,
)
from jaxmeta.distributed.varying import varying_alike
from jaxmeta.gradients.estimator import Estimator, PerTask, Totals, task_losses
from jaxmeta.gradients.mean import mean
from jaxmeta.types import Array, Key, Objective, PyTree, Report


def on_one_share(objective: Objective, estimator: Estimator, chunk: int | None = None) -> Mapped:
    """An estimator's ``each`` on the tasks of one device, in chunks.

    Args:
      objective: what is minimized.
      estimator: how its gradient is estimated.
      chunk: the largest number of tasks computed at a time; ``None`` chooses as many as fit into
        memory (see :mod:`jaxmeta.distributed.memory`).

    Returns:
      ``((params, state), (tasks, keys), weights) -> (Totals, PerTask)``.

    Raises:
      ValueError: ``chunk`` is not a positive integer.
    """
    if chunk is not None:
        check_count("chunk", chunk, least=1)

    def each(common: PyTree, items: PyTree, weights: Array) -> tuple[Totals, PerTask]:
        (params, state), (tasks, keys) = common, items
        return estimator.each(objective, params, state, tasks, keys, weights)

    def share(common: PyTree, items: PyTree, weights: Array) -> tuple[Totals, PerTask]:
        # Within a shard_map, this makes a gradient that of the device's own tasks.
        common, items, weights = varying_alike(common, items, weights)
        size = chunk or fitting_chunk(objective, *common, *items)
        totals, per_task = in_chunks(size)(each)(common, items, weights)
        return totals, per_task

    return share


class Gradient(Protocol):
    """An estimated gradient of the mean loss of given tasks."""

    def __call__(
        self, params: PyTree, state: PyTree, tasks: PyTree, keys: Key, key: Key | None = None, /
    ) -> tuple[PyTree, Report]:
        """The gradient, and a report.

        Args:
          params: what is differentiated.
          state: the objective's state.
          tasks: ``[k, ...]``.
          keys: ``[k]``, one for each task.
          key: randomness of the estimator's ``combine``; the mean needs none.

        Returns:
          The gradient, and a :class:`Report` of means over the tasks, whose ``carry`` is
          ``[k, ...]``.
        """


def estimate(
    objective: Objective,
    *,
    estimator: Estimator | None = None,
    chunk: int | None = None,
    spread: Spread = one_device,
) -> Gradient:
    """The gradient of the mean loss of given tasks; the outer loop draws its own.

    Args:
      objective: what is minimized.
      estimator: how the gradient is estimated; by default :func:`jaxmeta.gradients.mean`.
      chunk: the largest number of tasks computed at a time; ``None`` chooses as many as fit into
        memory.
      spread: how tasks are spread over devices, as in ``by_shard_map(jax.devices())`` of
        :mod:`jaxmeta.distributed.parallel`.

    Returns:
      See :class:`Gradient`.

    Raises:
      ValueError: ``chunk`` is not a positive integer.

    >>> import jax.numpy as jnp
    >>> squares = Objective(
    ...     init=lambda key, task: (jnp.zeros(()), ()),
    ...     loss=lambda params, state, task, key: ((params - task) ** 2 / 2, Report()),
    ... )
    >>> gradient = estimate(squares)
    >>> keys = jax.random.split(jax.random.key(0), 2)
    >>> gradient(jnp.zeros(()), (), jnp.array([1.0, 3.0]), keys)[0].item()
    -2.0
    """
    chosen = mean() if estimator is None else estimator
    computed = spread(on_one_share(objective, chosen, chunk))

    def gradient(
        params: PyTree, state: PyTree, tasks: PyTree, keys: Key, key: Key | None = None
    ) -> tuple[PyTree, Report]:
        weights = even_weights(keys.shape[0])
        totals, per_task = computed((params, state), (tasks, keys), weights)
        return combined(chosen, totals, per_task, key)

    return gradient


def combined(
    estimator: Estimator, totals: Totals, per_task: PerTask, key: Key | None
) -> tuple[PyTree, Report]:
    """The gradient and the report, from the totals over all shares of a step."""
    gradient = estimator.combine(totals.values, per_task.values, key)
    return gradient, Report(totals.statistics, totals.metrics, per_task.carry)


def fitting_chunk(
    objective: Objective, params: PyTree, state: PyTree, tasks: PyTree, keys: Key
) -> int:
    """The number of tasks computed at a time by default.

    It is the largest that fits into memory and adds at most a tenth to the tasks as padding.

    Args:
      objective: what is minimized.
      params: its parameters.
      state: its state.
      tasks: the tasks of a device, ``[k, ...]``.
      keys: ``[k]``, the randomness of each.

    >>> import jax.numpy as jnp
    >>> squares = Objective(
    ...     init=lambda key, task: (jnp.zeros(()), ()),
    ...     loss=lambda params, state, task, key: ((params - task) ** 2, Report()),
    ... )
    >>> keys = jax.random.split(jax.random.key(0), 6)
    >>> fitting_chunk(squares, jnp.float32(1), (), jnp.ones(6), keys)  # small tasks, all at once
    6
    """
    total = keys.shape[0]
    one = jax.tree.map(lambda leaf: leaf[:1], (tasks, keys))

    def loss(params: PyTree, state: PyTree, tasks: PyTree, keys: Key) -> PyTree:
        return task_losses(objective, params, state, tasks, keys)

    most = tasks_at_a_time(loss, params, state, *one, tasks=total)
    computed = {size: -(-total // size) * size for size in range(1, most + 1)}
    return max(size for size in computed if computed[size] <= 1.1 * total)
