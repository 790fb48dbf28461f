"""The one training loop: many outer steps in one compiled call, with no host in between."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxmeta.data import StreamedSampler
from jaxmeta.distributed.microbatches import given
from jaxmeta.distributed.parallel import Spread, one_device
from jaxmeta.gradients import Gradient
from jaxmeta.types import Array, Aux, Key, Metrics, PyTree, Sampler


class TrainState(NamedTuple):
    """Everything that training carries from step to step.

    Attributes:
      step: outer steps taken, int32.
      params: what is meta-learned.
      state: what is carried and not differentiated.
      optimizer: the state of the outer optimizer.
    """

    step: Array
    params: PyTree
    state: PyTree
    optimizer: PyTree


Update = Callable[[TrainState, PyTree, Key, int], tuple[TrainState, Metrics]]
"""``(train_state, data, key, steps) -> (train_state, metrics [steps, ...])``."""


def start(optimizer: optax.GradientTransformation, params: PyTree, state: PyTree) -> TrainState:
    """The train state before the first step."""
    begin = TrainState(jnp.zeros((), jnp.int32), params, state, optimizer.init(params))
    # No leaf may share its buffer, which is donated, with another, as some optimizers' states do.
    return jax.tree.map(jnp.copy, begin)


def outer_loop(
    gradient: Gradient,
    optimizer: optax.GradientTransformation,
    sample: Sampler,
    meta_batch: int,
    spread: Spread = one_device,
) -> Update:
    """Compiles many steps of: draw a meta-batch, estimate the gradient, update the parameters.

    The randomness of a step is ``fold_in(key, step)``, so training continued from a saved train
    state takes exactly the steps it would have taken.

    Args:
      gradient: the estimator of the outer gradient.
      optimizer: of the outer loop.
      sample: draws one task.
      meta_batch: tasks a step.
      spread: how the tasks are spread over devices, as in ``by_shard_map(jax.devices())`` of
        :mod:`jaxmeta.distributed.parallel`; each device draws its own.

    Returns:
      The compiled ``(train_state, data, key, steps) -> (train_state, metrics)``; ``steps`` is
      static, the given train state is donated, and the metrics (the objective's, and the
      ``outer_gradient_norm``) have a leading axis of steps.
    """

    def of_tasks(
        common: tuple[PyTree, PyTree, PyTree], keys: Key, weights: Array | None
    ) -> tuple[PyTree, Aux]:
        params, state, data = common
        tasks = jax.vmap(sample, in_axes=(None, 0))(data, keys[:, 0])
        return gradient(params, state, tasks, keys[:, 1], *given(weights))

    of_all_tasks = spread(of_tasks)

    def one_step(train_state: TrainState, data: PyTree, key: Key) -> tuple[TrainState, Metrics]:
        keys = jax.random.split(jax.random.fold_in(key, train_state.step), (meta_batch, 2))
        estimate = of_all_tasks((train_state.params, train_state.state, data), keys, None)
        return _descend(optimizer, train_state, *estimate)

    def update(
        train_state: TrainState, data: PyTree, key: Key, steps: int
    ) -> tuple[TrainState, Metrics]:
        return jax.lax.scan(lambda carry, _: one_step(carry, data, key), train_state, length=steps)

    return jax.jit(update, static_argnums=3, donate_argnums=0)


def streamed_loop(
    gradient: Gradient,
    optimizer: optax.GradientTransformation,
    sample: StreamedSampler,
    meta_batch: int,
    spread: Spread = one_device,
) -> Update:
    """The outer loop over meta-batches that are read ahead of their steps.

    Args:
      gradient: the estimator of the outer gradient.
      optimizer: of the outer loop.
      sample: the sampler whose tasks are read.
      meta_batch: tasks a step.
      spread: how the tasks are spread over devices.

    Returns:
      As :func:`outer_loop`, whose steps it takes bit for bit where nothing is spread; ``data`` is
      the iterator that :func:`jaxmeta.data.stream` gives, with the ``places`` and the ``put`` of
      :mod:`jaxmeta.distributed.parallel` where there are several devices, opened at the train
      state's step.
    """

    def of_tasks(
        common: tuple[PyTree, PyTree], items: tuple[PyTree, Key], weights: Array | None
    ) -> tuple[PyTree, Aux]:
        (choices, examples), keys = items
        return gradient(*common, jax.vmap(sample.finish)(examples, choices), keys, *given(weights))

    of_all_tasks = spread(of_tasks)

    def one_step(train_state: TrainState, item: PyTree, key: Key) -> tuple[TrainState, Metrics]:
        keys = jax.random.split(jax.random.fold_in(key, train_state.step), (meta_batch, 2))[:, 1]
        # Items were filled up when they were put on the devices.
        place = jnp.arange(jax.tree.leaves(item)[0].shape[0])
        weights = None
        if place.size > meta_batch:
            weights = jnp.where(place < meta_batch, 1 / meta_batch, 0.0)
        keys = keys[jnp.minimum(place, meta_batch - 1)]
        estimate = of_all_tasks((train_state.params, train_state.state), (item, keys), weights)
        return _descend(optimizer, train_state, *estimate)

    compiled = jax.jit(one_step, donate_argnums=0)

    def update(
        train_state: TrainState, items: Iterator[PyTree], key: Key, steps: int
    ) -> tuple[TrainState, Metrics]:
        rows = []
        for _ in range(steps):  # each is dispatched before the one before it is done
            train_state, metrics = compiled(train_state, next(items), key)
            rows.append(metrics)
        return train_state, jax.tree.map(lambda *row: jnp.stack(row), *rows)

    return update


def _descend(
    optimizer: optax.GradientTransformation, train_state: TrainState, gradient: PyTree, aux: Aux
) -> tuple[TrainState, Metrics]:
    """One update of the parameters."""
    step, params, _, optimizer_state = train_state
    # Optax raises floats to the power of an integer count, which "strict" would refuse.
    with jax.numpy_dtype_promotion("standard"):
        updates, optimizer_state = optimizer.update(gradient, optimizer_state, params)
        params = optax.apply_updates(params, updates)
    metrics = {**aux.metrics, "outer_gradient_norm": optax.tree.norm(gradient)}
    return TrainState(step + 1, params, aux.state, optimizer_state), metrics


def first_non_finite(metrics: Metrics, after: PyTree) -> int | None:
    """The first row of metrics at which the loss, the gradient or what came of it is not finite.

    Args:
      metrics: with a leading axis of steps.
      after: arrays that the last step left.

    Returns:
      The row, or ``None`` when all numbers are finite.
    """
    finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["outer_gradient_norm"])
    sound = all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(after))
    finite = finite.at[-1].set(finite[-1] & sound)
    return None if bool(jnp.all(finite)) else int(jnp.argmin(finite))
