"""Networks of which every task has its own, or its own statistics, as one model."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.types import Array, Key, Model, PyTree, Tasked


def per_task(model: Model, tasks: int) -> Model:
    r"""A network of its own for each task: :math:`f(x, t) = f_{\theta_t}(x)`.

    Only the network of the batch's task is computed, so a batch must be of one task, as
    :func:`jaxmeta.data.task_source` draws it. The outputs of an example of another task are NaN,
    and so are those of a task that there is not.

    Args:
      model: the network that each task gets, such as a head or a whole classifier.
      tasks: number of tasks.

    Returns:
      A model over :class:`~jaxmeta.types.Tasked` inputs, whose parameters and state are those of
      ``model`` with a leading axis of tasks. Its new state differs from the old in the task's row.

    Raises:
      ValueError: ``tasks`` is not a positive integer or, when called, the inputs name no task.

    >>> from jaxmeta.nn import mlp
    >>> heads = per_task(mlp(2, hidden=()), tasks=3)
    >>> x = Tasked(jnp.ones((4, 5)), jnp.full(4, 1))
    >>> params, state = heads.init(jax.random.key(0), x)
    >>> params["head"]["kernel"].shape, heads.apply(params, state, x)[0].shape
    ((3, 5, 2), (4, 2))
    """
    check_count("tasks", tasks, least=1)

    def init(key: Key, x: Tasked) -> tuple[PyTree, PyTree]:
        check_tasked(x)
        return jax.vmap(model.init, in_axes=(0, None))(jax.random.split(key, tasks), x.x)

    def apply(
        params: PyTree,
        state: PyTree,
        x: Tasked,
        mask: Array | None = None,
        key: Key | None = None,
        batch_statistics: bool = True,
    ) -> tuple[Array, PyTree]:
        check_tasked(x)
        own, kept = jax.tree.map(lambda leaf: leaf[x.task[0]], (params, state))
        outputs, used = model.apply(own, kept, x.x, mask, key, batch_statistics)
        return _of_one_task(outputs, x.task, tasks), _with_row(state, used, x.task)

    return Model(init, apply)


def statistics_per_task(model: Model, tasks: int) -> Model:
    """One network for all tasks, which keeps the statistics of its inputs for each task.

    In training, a batch is normalized by its own statistics, which are those of one task. So
    averages over all tasks would be other statistics than the network was trained with.

    Args:
      model: the network that all tasks share; its inputs do not name the task.
      tasks: number of tasks.

    Returns:
      A model over :class:`~jaxmeta.types.Tasked` inputs of one task with the parameters of
      ``model``. Its state has a leading axis of tasks.

    Raises:
      ValueError: as for :func:`per_task`.

    >>> from jaxmeta.nn import conv4
    >>> x = Tasked(jnp.ones((4, 16, 16, 1)), jnp.full(4, 1))
    >>> params, state = statistics_per_task(conv4(), tasks=3).init(jax.random.key(0), x)
    >>> params["block0"]["scale"].shape, state["block0"].mean.shape
    ((64,), (3, 64))
    """
    check_count("tasks", tasks, least=1)

    def init(key: Key, x: Tasked) -> tuple[PyTree, PyTree]:
        check_tasked(x)
        params, state = model.init(key, x.x)
        return params, jax.tree.map(lambda leaf: jnp.stack([leaf] * tasks), state)

    def apply(
        params: PyTree,
        state: PyTree,
        x: Tasked,
        mask: Array | None = None,
        key: Key | None = None,
        batch_statistics: bool = True,
    ) -> tuple[Array, PyTree]:
        check_tasked(x)
        own = jax.tree.map(lambda leaf: leaf[x.task[0]], state)
        outputs, used = model.apply(params, own, x.x, mask, key, batch_statistics)
        return _of_one_task(outputs, x.task, tasks), _with_row(state, used, x.task)

    return Model(init, apply)


def columns(model: Model, count: int) -> Model:
    """Several networks, each with inputs of its own: ``[count, n, ...]`` to ``[count, n, ...]``.

    Args:
      model: the network of a column.
      count: number of columns.

    Returns:
      A model whose parameters and state are those of ``model`` with a leading axis of columns.

    Raises:
      ValueError: ``count`` is not a positive integer.

    >>> from jaxmeta.nn import mlp
    >>> model, x = columns(mlp(2), 3), jnp.ones((3, 4, 5))
    >>> model.apply(*model.init(jax.random.key(0), x), x)[0].shape
    (3, 4, 2)
    """
    check_count("count", count, least=1)

    def init(key: Key, x: PyTree) -> tuple[PyTree, PyTree]:
        return jax.vmap(model.init)(jax.random.split(key, count), x)

    def apply(
        params: PyTree,
        state: PyTree,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
        batch_statistics: bool = True,
    ) -> tuple[Array, PyTree]:
        def column(params: PyTree, state: PyTree, x: PyTree, key: Key | None) -> Any:
            return model.apply(params, state, x, mask, key, batch_statistics)

        keys = None if key is None else jax.random.split(key, count)
        return jax.vmap(column)(params, state, x, keys)

    return Model(init, apply)


def check_tasked(x: Any) -> None:
    """Raises ``ValueError`` unless inputs name their task."""
    if not isinstance(x, Tasked):
        raise ValueError(
            f"The inputs are a {type(x).__name__} and name no task: draw them from "
            "jaxmeta.data.task_source, or give jaxmeta.types.Tasked(x, task)."
        )


def _of_one_task(outputs: Array, task: Array, tasks: int) -> Array:
    """The outputs ``[n, ...]``, NaN for examples of another task than the first, or of none."""
    right = (task == task[0]) & (task >= 0) & (task < tasks)
    kept = jnp.expand_dims(right, range(1, outputs.ndim))
    return jnp.where(kept, outputs, jnp.full_like(outputs, jnp.nan))


def _with_row(rows: PyTree, new: PyTree, task: Array) -> PyTree:
    """Leaves ``[tasks, ...]`` with that of the batch's task, if it is one of them, replaced."""
    return jax.tree.map(lambda leaf, row: leaf.at[task[0]].set(row.astype(leaf.dtype)), rows, new)
