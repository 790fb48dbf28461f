"""How the state of an objective follows the statistics of its tasks."""

from collections.abc import Callable

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
