"""Learners whose adaptation starts elsewhere: from a new network, or from a changed one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.types import Array, Batch, Episode, Key, Learner, Metrics, PyTree

Learned = tuple[PyTree, PyTree]
"""Parameters and state."""
Start = Callable[[Learned, Learned], Learned]
"""``(given, fresh) -> changed``, where ``fresh`` is newly initialized for this task."""


class Adapted(NamedTuple):
    """What the learner started from in this task, and what it adapted."""

    params: PyTree
    state: PyTree
    adapted: PyTree


def restarted(learner: Learner, start: Start) -> Learner:
    """The same learner, given parameters and a state that are changed for each task.

    Args:
      learner: the learner.
      start: see :data:`Start`; the new network is drawn from the task's key, for the shapes of its
        support set.

    Returns:
      A learner with the parameters and state of ``learner``, and a ``path`` if that has one.
    """

    def started(params: PyTree, state: PyTree, support: Batch, key: Key) -> Learned:
        return start((params, state), learner.init(key, Episode(support, support)))

    def adapt(params: PyTree, state: PyTree, support: Batch, key: Key) -> tuple[Adapted, Metrics]:
        init_key, adapt_key = jax.random.split(key)
        own = started(params, state, support, init_key)
        adapted, metrics = learner.adapt(*own, support, adapt_key)
        return Adapted(*own, adapted), metrics

    def predict(
        params: PyTree,
        state: PyTree,
        adapted: Adapted,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
    ) -> tuple[Array, PyTree]:
        outputs, _ = learner.predict(adapted.params, adapted.state, adapted.adapted, x, mask, key)
        return outputs, state

    walk = learner.path
    if walk is None:
        return Learner(learner.init, adapt, predict)

    def path(params: PyTree, state: PyTree, support: Batch, key: Key) -> tuple[Any, Metrics]:
        init_key, adapt_key = jax.random.split(key)
        own = started(params, state, support, init_key)
        rows, metrics = walk(*own, support, adapt_key)
        count = jax.tree.leaves(rows)[0].shape[0]
        params, state = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), own)
        return Adapted(params, state, rows), metrics

    return Learner(learner.init, adapt, predict, path)
