"""How the state of an objective follows the statistics of its tasks."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.types import Array, PyTree


def running_average(decay: float = 0.9) -> Callable[[PyTree, PyTree, PyTree], PyTree]:
    r"""An objective's ``update`` that averages statistics over outer steps.

    .. math:: s \leftarrow d\, s + (1 - d)\, \frac1k \sum_i \mathrm{statistics}_i

    Args:
      decay: d, the share of itself that the average keeps at each step. Leaves of the state that
        are not of a floating type, such as counts, are unchanged.

    Returns:
      ``(state, params, statistics) -> state``; the statistics have the state's structure.

    Raises:
      ValueError: ``decay`` is outside [0, 1].

    >>> update = running_average(0.75)
    >>> update(jnp.array(2.0), (), jnp.array(6.0)).item()
    3.0
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"decay is {decay}: give the share, from 0 to 1, that averages keep.")

    def update(state: PyTree, params: PyTree, statistics: PyTree) -> PyTree:
        def average(old: Array, new: Array) -> Array:
            if not jnp.issubdtype(jnp.result_type(old), jnp.floating):
                return old
            return decay * old + (1 - decay) * new.astype(old.dtype)

        return jax.tree.map(average, state, statistics)

    return update


class Changes(NamedTuple):
    """What a task changed in a state: by how much, and 1 where it did; zeros elsewhere."""

    amount: PyTree
    changed: PyTree


def changes(state: PyTree, statistics: PyTree) -> Changes:
    """What the statistics of a task differ in from the state, for :func:`running_average_of_tasks`.

    >>> changes(jnp.array([2.0, 3.0]), jnp.array([2.0, 7.0])).amount.tolist()
    [0.0, 4.0]
    """

    def amount(old: Array, new: Array) -> Array:
        floating = jnp.issubdtype(jnp.result_type(old), jnp.floating)
        return new.astype(old.dtype) - old if floating else jnp.zeros(jnp.shape(old), jnp.float32)

    amounts = jax.tree.map(amount, state, statistics)
    return Changes(amounts, jax.tree.map(lambda leaf: (leaf != 0).astype(leaf.dtype), amounts))


def running_average_of_tasks(decay: float = 0.9) -> Callable[[PyTree, PyTree, Changes], PyTree]:
    r"""Like :func:`running_average`, where a task changes only what is its own.

    .. math:: s_t \leftarrow d\, s_t + (1 - d)\, \operatorname*{mean}_{i \text{ of task } t}
              \mathrm{statistics}_i

    for the tasks t that a step has; what belongs to others stays. So an average is as quick for a
    task that is drawn seldom as for one that is drawn often.

    Args:
      decay: d, as for :func:`running_average`.

    Returns:
      ``(state, params, changes) -> state``, with the mean over tasks of :func:`changes`.

    Raises:
      ValueError: ``decay`` is outside [0, 1].

    >>> update = running_average_of_tasks(0.75)
    >>> state = jnp.array([2.0, 3.0])
    >>> update(state, (), changes(state, jnp.array([2.0, 7.0]))).tolist()
    [2.0, 4.0]
    """
    average = running_average(decay)

    def update(state: PyTree, params: PyTree, mean: Changes) -> PyTree:
        def statistics(old: Array, amount: Array, changed: Array) -> Array:
            share = jnp.where(changed > 0, changed, 1)
            return old + (amount / share).astype(old.dtype)

        return average(state, params, jax.tree.map(statistics, state, mean.amount, mean.changed))

    return update
