"""The one evaluation: the mean over many tasks, with the interval that belongs to it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.checks import check_count
from jaxmeta.distributed.memory import tasks_at_a_time
from jaxmeta.distributed.parallel import map_over_devices
from jaxmeta.types import Array, Key, Learner, Loss, PyTree, Sampler


class Evaluation(NamedTuple):
    """A figure and how sure one may be of it.

    Attributes:
      mean: over episodes.
      ci95: half the width of the 95% interval of the mean, ``1.96 s / sqrt(episodes)``, with s the
        sample standard deviation over episodes.
      episodes: how many.
    """

    mean: float
    ci95: float
    episodes: int


def evaluator(
    learner: Learner,
    metric: Loss,
    sample: Sampler,
    episodes: int,
    chunk: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    shards: int = 1,
) -> Callable[[PyTree, PyTree, PyTree, Key], Array]:
    """Compiles the evaluation of a learner on drawn episodes.

    Episode ``i`` is a function of ``(data, key, i)`` alone: every learner sees the same episodes.

    Args:
      learner: adapts to the support set; predictions are made without noise.
      metric: a figure of the query set.
      sample: draws one task.
      episodes: how many tasks.
      chunk: how many tasks are computed at a time; ``None`` chooses as many as fit into the
        memory: see :mod:`jaxmeta.distributed.memory`.
      devices: where to run, each device taking its share of the episodes.
      shards: devices of a group over which parameters are cut, as in
        :func:`jaxmeta.distributed.parallel.by_shard_map`.

    Returns:
      ``(params, state, data, key) -> values [episodes]``; see :func:`summarize`.

    Raises:
      ValueError: ``episodes`` is not a whole number of 2 or more, what an interval needs, or
        ``chunk`` is no count.
    """
    check_count("episodes", episodes, least=2)
    if chunk is not None:
        check_count("chunk", chunk, least=1)

    def part(arguments: tuple[PyTree, PyTree, PyTree, Key], indices: Array) -> Array:
        params, state, data, key = arguments

        def one(index: Array) -> Array:
            sample_key, adapt_key = jax.random.split(jax.random.fold_in(key, index))
            support, query = sample(data, sample_key)
            adapted, _ = learner.adapt(params, state, support, adapt_key)
            outputs, _ = learner.predict(params, state, adapted, query.x, query.mask)
            return metric(outputs, query.y, query.mask)

        size = tasks_at_a_time(one, indices[0], tasks=indices.size) if chunk is None else chunk
        return jax.lax.map(one, indices, batch_size=size)

    def run(params: PyTree, state: PyTree, data: PyTree, key: Key) -> Array:
        shared = part if devices is None else map_over_devices(part, devices, shards)
        return shared((params, state, data, key), jnp.arange(episodes))

    return jax.jit(run)


def summarize(values: Array | np.ndarray) -> Evaluation:
    """Mean and 95% interval of one value an episode ``[episodes]``."""
    array = np.asarray(values, np.float64)
    ci95 = 1.96 * array.std(ddof=1) / np.sqrt(array.size)
    return Evaluation(float(array.mean()), float(ci95), array.size)
