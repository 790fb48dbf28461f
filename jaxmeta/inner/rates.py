"""Step sizes, fixed or learned, and hyper-parameters of each step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxmeta.checks import check_count
from jaxmeta.types import Key, PyTree


def sgd(rates: PyTree) -> optax.GradientTransformation:
    """Gradient descent, each update ``-rate * gradient``, with rates that may be learned.

    Args:
      rates: a scalar, or a pytree of the parameters' structure holding a scalar or an array of the
        parameter's shape for each leaf; see :func:`learning_rates`.
    """

    def update(gradient: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Any]:
        if jax.tree_util.treedef_is_leaf(jax.tree.structure(rates)):
            return jax.tree.map(lambda g: -rates * g, gradient), state
        return jax.tree.map(lambda rate, g: -rate * g, rates, gradient), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def learning_rates(value: float, granularity: str = "loop") -> Callable[[Key, PyTree], PyTree]:
    """Initial step sizes to be meta-learned, for ``unroll(sgd, hyper=learning_rates(...))``.

    Args:
      value: the rate that learning starts from.
      granularity: ``"loop"`` for one rate, ``"leaf"`` for one per leaf, ``"parameter"`` for one per
        parameter (Meta-SGD; Li et al., 2017).

    Returns:
      ``(key, fast) -> rates``.

    Raises:
      ValueError: the granularity is none of the three.
    """
    if granularity not in ("loop", "leaf", "parameter"):
        raise ValueError(f"granularity is {granularity!r}: choose 'loop', 'leaf' or 'parameter'.")

    def init(key: Key, fast: PyTree) -> PyTree:
        if granularity == "loop":
            return jnp.full((), value, jnp.result_type(*jax.tree.leaves(fast)))
        own = granularity == "parameter"
        return jax.tree.map(
            lambda leaf: jnp.full(leaf.shape if own else (), value, leaf.dtype), fast
        )

    return init


class PerStep(NamedTuple):
    """Hyper-parameters of each step, each leaf with a leading axis of steps."""

    rows: PyTree


def per_step(
    hyper: Callable[[Key, PyTree], PyTree], steps: int
) -> Callable[[Key, PyTree], PerStep]:
    """Gives each step hyper-parameters of its own, all starting from the same values.

    Step t of :func:`unroll` uses row t. Steps beyond the last row use the last row, so that a loop
    may run longer than it was trained for.

    Args:
      hyper: ``(key, fast) -> values`` for one step.
      steps: how many rows.

    Returns:
      ``(key, fast) -> PerStep``.

    Raises:
      ValueError: there is no row.

    References:
      Antoniou et al., 2019, How to Train Your MAML, section 4, learns rates per layer and step.
    """
    check_count("steps", steps, least=1)

    def init(key: Key, fast: PyTree) -> PerStep:
        values = hyper(key, fast)
        return PerStep(
            jax.tree.map(lambda v: jnp.repeat(jnp.asarray(v)[None], steps, axis=0), values)
        )

    return init
