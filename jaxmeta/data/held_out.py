"""Episodes that learn on some of many tasks and are evaluated on another."""

import jax
import jax.numpy as jnp

from jaxmeta.data.placed import PlacedSampler
from jaxmeta.types import Array, Episode, Key, PyTree, Sampler


def held_out_task(sample: Sampler) -> Sampler:
    """Draws a batch of a task, chosen at random, to evaluate on, and one of every other to learn.

    For domains whose classes are the same: each is a task.

    Args:
      sample: ``source.batches(size)`` of a :func:`jaxmeta.data.task_source`, without an exponent.

    Returns:
      A sampler of episodes. The support set has ``size`` examples of all tasks but one, and the
      query set ``size`` examples of that. In a config,
      ``{"make": "jaxmeta.data.held_out_task", "sample": {"batches": 8}}``.

    Raises:
      ValueError: the sampler does not take several tasks in turn.

    >>> from jaxmeta.data import task_source
    >>> source = task_source(jnp.ones((6, 1)), [[1, 1]] * 3, ["ants", "bees", "cats"])
    >>> episode = held_out_task(source.batches(4))(source.data, jax.random.key(0))
    >>> episode.support.y.shape, episode.query.y.shape
    ((8,), (4,))
    """
    if not isinstance(sample, PlacedSampler) or sample.places < 2:
        raise ValueError(
            "Holding out one of several tasks needs a sampler that takes them in turn: give "
            "source.batches(size) of a source of two tasks or more, without an exponent."
        )
    tasks, at = sample.places, sample.at

    def draw(data: PyTree, key: Key) -> Episode:
        place_key, task_key = jax.random.split(key)
        held = jax.random.randint(place_key, (), 0, tasks)
        keys = jax.random.split(task_key, tasks)
        others = (held + jnp.arange(1, tasks)) % tasks
        seen = jax.vmap(at, in_axes=(None, 0, 0))(data, keys[1:], others)
        return Episode(jax.tree.map(_joined, seen), at(data, keys[0], held))

    return draw


def _joined(leaf: Array) -> Array:
    """``[tasks, n, ...]`` as ``[tasks * n, ...]``."""
    return leaf.reshape(-1, *leaf.shape[2:])
