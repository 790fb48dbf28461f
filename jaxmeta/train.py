"""The training loop: many outer steps in one compiled call, with no host in between."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxmeta.data import StreamedSampler
from jaxmeta.data.placed import at_place
from jaxmeta.distributed.microbatches import Spread, even_weights, one_device, pad
from jaxmeta.gradients import Estimator, PerTask, Totals, mean
from jaxmeta.gradients.estimate import combined, on_one_share
from jaxmeta.keys import task_keys
from jaxmeta.types import Array, Carried, Key, Metrics, Objective, PyTree, Report, Sampler


class TrainState(NamedTuple):
    """Everything that training carries from step to step.

    Attributes:
      step: outer steps taken, int32.
      params: what is meta-learned.
      state: what is carried but not differentiated.
      optimizer: the state of the outer optimizer.
      carry: what each task passes on to the task in its place at the next step,
        ``[meta_batch, ...]``; ``()`` for objectives that carry nothing.
    """

    step: Array
    params: PyTree
    state: PyTree
    optimizer: PyTree
    carry: PyTree = ()


Update = Callable[[TrainState, PyTree, Key, int], tuple[TrainState, Metrics]]
"""``(train_state, data, key, steps) -> (train_state, metrics [steps, ...])``."""


def init_train_state(
    optimizer: optax.GradientTransformation, params: PyTree, state: PyTree, carry: PyTree = ()
) -> TrainState:
    """The train state before the first step.

    Args:
      optimizer: the outer optimizer.
      params: initial parameters, as returned by an objective's ``init``.
      state: initial state, likewise.
      carry: what tasks carry into the first step; see :func:`init_carry`.

    >>> init_train_state(optax.sgd(0.1), {"w": jnp.ones(3)}, ()).step.item()
    0
    """
    begin = TrainState(jnp.zeros((), jnp.int32), params, state, optimizer.init(params), carry)
    # Buffers are donated, so leaves must not share them, as those of some optimizers' states do.
    return jax.tree.map(jnp.copy, begin)


def init_carry(
    objective: Objective,
    params: PyTree,
    state: PyTree,
    sample: Sampler,
    data: PyTree,
    key: Key,
    meta_batch: int,
) -> PyTree:
    """What the tasks carry into the first step, ``[meta_batch, ...]``.

    Args:
      objective: what is minimized; the result is ``()`` if it carries nothing.
      params: initial parameters.
      state: initial state.
      sample: draws one task.
      data: what it draws from.
      key: randomness, such as the ``carry`` of :func:`jaxmeta.keys.streams`.
      meta_batch: number of tasks in a step.

    >>> counting = Objective(
    ...     init=lambda key, task: ((), ()),
    ...     loss=lambda params, state, task, key: (task.task, Report(carry=task.carry + 1)),
    ...     carry=lambda params, state, task, key: task,
    ... )
    >>> key = jax.random.key(0)
    >>> init_carry(counting, (), (), lambda data, key: data, jnp.zeros(()), key, 3).tolist()
    [0.0, 0.0, 0.0]
    """
    begin = objective.carry
    if begin is None:
        return ()

    def one(sample_key: Key, carry_key: Key, place: Array) -> PyTree:
        return begin(params, state, at_place(sample)(data, sample_key, place), carry_key)

    keys = task_keys(key, 0, meta_batch)
    return jax.vmap(one)(keys.sample, keys.loss, jnp.arange(meta_batch))


def outer_loop(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    sample: Sampler,
    meta_batch: int,
    *,
    estimator: Estimator | None = None,
    chunk: int | None = None,
    spread: Spread = one_device,
) -> Update:
    """Compiles steps that draw a meta-batch, estimate the gradient and update the parameters.

    The randomness of a step is a function of the key and the step (:func:`jaxmeta.keys.task_keys`),
    so training resumed from a saved train state takes exactly the steps it would have taken
    uninterrupted.

    Args:
      objective: what is minimized.
      optimizer: the outer optimizer.
      sample: draws one task; a :class:`jaxmeta.data.PlacedSampler` is told its place, counted over
        the tasks of all steps.
      meta_batch: number of tasks in a step.
      estimator: how the gradient is estimated; by default :func:`jaxmeta.gradients.mean`.
      chunk: the largest number of tasks computed at a time; ``None`` chooses as many as fit into
        memory.
      spread: how the tasks are spread over devices, as in ``by_shard_map(jax.devices())`` of
        :mod:`jaxmeta.distributed.parallel`; each device draws its own tasks.

    Returns:
      The compiled ``(train_state, data, key, steps) -> (train_state, metrics)``; ``steps`` is
      static, the given train state is donated, and the metrics (the objective's and
      ``outer_gradient_norm``) have a leading axis of steps.

    Raises:
      ValueError: ``chunk`` is not a positive integer.

    >>> squares = Objective(
    ...     init=lambda key, task: (jnp.zeros(()), ()),
    ...     loss=lambda params, state, task, key: ((params - task) ** 2 / 2, Report()),
    ... )
    >>> optimizer = optax.sgd(0.5)
    >>> update = outer_loop(squares, optimizer, lambda data, key: data, meta_batch=2)
    >>> data, key = jnp.float32(8), jax.random.key(0)
    >>> train_state = init_train_state(optimizer, *squares.init(key, data))
    >>> train_state, metrics = update(train_state, data, key, 3)
    >>> train_state.params.item(), metrics["loss"].tolist()
    (7.0, [32.0, 8.0, 2.0])
    """
    estimator = mean() if estimator is None else estimator
    share = on_one_share(objective, estimator, chunk)

    def of_tasks(common: PyTree, items: PyTree, weights: Array) -> tuple[Totals, PerTask]:
        (params, state, data), (sample_keys, places, keys, carry) = common, items
        tasks = jax.vmap(at_place(sample), in_axes=(None, 0, 0))(data, sample_keys, places)
        return share((params, state), (_carried(objective, tasks, carry), keys), weights)

    of_all_tasks = spread(of_tasks)

    def one_step(train_state: TrainState, data: PyTree, key: Key) -> tuple[TrainState, Metrics]:
        keys = task_keys(key, train_state.step, meta_batch)
        # Numbered over all steps, so that several tasks are taken in turn by any meta-batch.
        places = train_state.step * meta_batch + jnp.arange(meta_batch)
        outcome = of_all_tasks(
            (train_state.params, train_state.state, data),
            (keys.sample, places, keys.loss, train_state.carry),
            even_weights(meta_batch),
        )
        estimated = combined(estimator, *outcome, keys.combine)
        return _descend(objective, optimizer, train_state, *estimated)

    def update(
        train_state: TrainState, data: PyTree, key: Key, steps: int
    ) -> tuple[TrainState, Metrics]:
        return jax.lax.scan(lambda carry, _: one_step(carry, data, key), train_state, length=steps)

    return jax.jit(update, static_argnums=3, donate_argnums=0)


def streamed_loop(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    sample: StreamedSampler,
    meta_batch: int,
    *,
    estimator: Estimator | None = None,
    chunk: int | None = None,
    spread: Spread = one_device,
) -> Update:
    """The outer loop over meta-batches that are read ahead of their steps.

    Args:
      objective: what is minimized.
      optimizer: the outer optimizer.
      sample: the sampler whose tasks are read ahead.
      meta_batch: number of tasks in a step.
      estimator: how the gradient is estimated.
      chunk: the largest number of tasks computed at a time.
      spread: how the tasks are spread over devices.

    Returns:
      An update like that of :func:`outer_loop`, on bitwise the same tasks, but with ``data`` an
      iterator from :func:`jaxmeta.data.stream` opened at the train state's step. With several
      devices, that function needs ``local_tasks`` and ``to_global_array`` of
      :mod:`jaxmeta.distributed.parallel`.

    >>> import numpy as np
    >>> from jaxmeta.data import stream, streamed_source
    >>> numbers = {"low": range(2), "high": range(2, 4)}  # of the records
    >>> source = streamed_source(np.float32([[0], [1], [8], [9]]), numbers)
    >>> sample = source.episodes(ways=2, shots=1, queries=1)
    >>> middle = Objective(
    ...     init=lambda key, task: (jnp.zeros(()), ()),
    ...     loss=lambda params, state, task, key: (
    ...         jnp.mean((task.support.x - params) ** 2),
    ...         Report(),
    ...     ),
    ... )
    >>> optimizer, key = optax.sgd(0.5), jax.random.key(0)
    >>> update = streamed_loop(middle, optimizer, sample, meta_batch=8)
    >>> items = stream(sample, source.data, key, 8, start=0, stop=1)
    >>> train_state, _ = update(init_train_state(optimizer, jnp.zeros(()), ()), items, key, 1)
    >>> 4 <= train_state.params.item() <= 5
    True
    """
    estimator = mean() if estimator is None else estimator
    share = on_one_share(objective, estimator, chunk)

    def of_tasks(common: PyTree, items: PyTree, weights: Array) -> tuple[Totals, PerTask]:
        (choices, examples), keys, carry = items
        tasks = jax.vmap(sample.finish)(examples, choices)
        return share(common, (_carried(objective, tasks, carry), keys), weights)

    of_all_tasks = spread(of_tasks)

    def one_step(train_state: TrainState, item: PyTree, key: Key) -> tuple[TrainState, Metrics]:
        keys = task_keys(key, train_state.step, meta_batch)
        # Items were padded when they were put on the devices.
        filled = jax.tree.leaves(item)[0].shape[0]
        own = (keys.loss, train_state.carry)
        own, weights = pad(own, even_weights(meta_batch), parts=filled)
        totals, per_task = of_all_tasks(
            (train_state.params, train_state.state), (item, *own), weights
        )
        per_task = jax.tree.map(lambda leaf: leaf[:meta_batch], per_task)
        estimated = combined(estimator, totals, per_task, keys.combine)
        return _descend(objective, optimizer, train_state, *estimated)

    compiled = jax.jit(one_step, donate_argnums=0)

    def update(
        train_state: TrainState, items: Iterator[PyTree], key: Key, steps: int
    ) -> tuple[TrainState, Metrics]:
        rows = []
        for _ in range(steps):  # each is dispatched before the previous one is done
            train_state, metrics = compiled(train_state, next(items), key)
            rows.append(metrics)
        return train_state, jax.tree.map(lambda *row: jnp.stack(row), *rows)

    return update


def _carried(objective: Objective, tasks: PyTree, carry: PyTree) -> PyTree:
    """The tasks in the form that the objective's loss takes."""
    if objective.carry is None:
        return tasks
    if not jax.tree.leaves(carry):
        raise ValueError(
            "The train state carries nothing, and the tasks of this objective do: give "
            "init_train_state what init_carry makes."
        )
    return Carried(tasks, carry)


def _descend(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    train_state: TrainState,
    gradient: PyTree,
    report: Report,
) -> tuple[TrainState, Metrics]:
    """One update of the parameters, and then of the state."""
    step, params, state, optimizer_state, _ = train_state
    # Optax raises floats to the power of an integer count, which "strict" would refuse.
    with jax.numpy_dtype_promotion("standard"):
        updates, optimizer_state = optimizer.update(gradient, optimizer_state, params)
        params = optax.apply_updates(params, updates)
    state = objective.update(state, params, report.statistics)
    metrics = {**report.metrics, "outer_gradient_norm": optax.tree.norm(gradient)}
    return TrainState(step + 1, params, state, optimizer_state, report.carry), metrics


def first_non_finite(metrics: Metrics, after: PyTree) -> int | None:
    """The first row of metrics at which the loss, the gradient or the result is not finite.

    Args:
      metrics: metrics with a leading axis of steps.
      after: arrays that result from the last step.

    Returns:
      The row, or ``None`` when all numbers are finite.

    >>> norms = {"outer_gradient_norm": jnp.ones(3)}
    >>> first_non_finite({"loss": jnp.array([1.0, jnp.nan, 1.0]), **norms}, ())
    1
    """
    finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["outer_gradient_norm"])
    sound = all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(after))
    finite = finite.at[-1].set(finite[-1] & sound)
    return None if bool(jnp.all(finite)) else int(jnp.argmin(finite))
