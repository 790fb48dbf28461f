"""Step sizes, fixed or learned, and hyperparameters that differ from step to step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxmeta.checks import check_count
from jaxmeta.types import Key, PyTree


def sgd(rates: PyTree) -> optax.GradientTransformation:
    """Gradient descent with step sizes that may be learned: each update is ``-rate * gradient``.

    Args:
      rates: a scalar, or a pytree with the structure of the parameters that has a scalar or an
        array of the leaf's shape for each leaf; see :func:`learning_rates`.

    Returns:
      An optax transformation.

    >>> params = {"a": jnp.ones(2), "b": jnp.ones(())}
    >>> optimizer = sgd({"a": jnp.array([1.0, 2.0]), "b": jnp.array(3.0)})
    >>> updates, _ = optimizer.update(params, optimizer.init(params))
    >>> updates["a"].tolist(), updates["b"].item()
    ([-1.0, -2.0], -3.0)
    """

    def update(gradient: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Any]:
        if jax.tree_util.treedef_is_leaf(jax.tree.structure(rates)):
            return jax.tree.map(lambda g: -rates * g, gradient), state
        return jax.tree.map(lambda rate, g: -rate * g, rates, gradient), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def learning_rates(value: float, granularity: str = "loop") -> Callable[[Key, PyTree], PyTree]:
    """Initial step sizes to be meta-learned, for ``unroll(sgd, hyper=learning_rates(...))``.

    Args:
      value: the initial rate.
      granularity: ``"loop"`` for one rate, ``"leaf"`` for one per leaf, ``"parameter"`` for one per
        entry of each leaf (Meta-SGD; Li et al., 2017).

    Returns:
      ``(key, fast) -> rates``.

    Raises:
      ValueError: the granularity is none of the three.

    >>> fast = {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}
    >>> jax.tree.map(jnp.shape, learning_rates(0.1, "leaf")(jax.random.key(0), fast))
    {'bias': (), 'kernel': ()}
    """
    if granularity not in ("loop", "leaf", "parameter"):
        raise ValueError(
            f"granularity must be 'loop', 'leaf' or 'parameter', but is {granularity!r}."
        )

    def init(key: Key, fast: PyTree) -> PyTree:
        if granularity == "loop":
            return jnp.full((), value, jnp.result_type(*jax.tree.leaves(fast)))
        per_entry = granularity == "parameter"
        return jax.tree.map(
            lambda leaf: jnp.full(leaf.shape if per_entry else (), value, leaf.dtype), fast
        )

    return init


class PerStep(NamedTuple):
    """Hyperparameters that differ from step to step: each leaf has a leading axis of steps."""

    rows: PyTree


def per_step(
    hyper: Callable[[Key, PyTree], PyTree], steps: int
) -> Callable[[Key, PyTree], PerStep]:
    """Gives each step its own hyperparameters, all starting from the same values.

    Step t of :func:`unroll` uses row t, and steps beyond the last row use the last row, so a loop
    may run for longer than it was trained for.

    Args:
      hyper: ``(key, fast) -> values`` for one step.
      steps: number of rows.

    Returns:
      ``(key, fast) -> PerStep``.

    Raises:
      ValueError: ``steps`` is not positive.

    References:
      Antoniou et al., 2019, How to Train Your MAML, section 4, learns rates per layer and step.

    >>> init = per_step(learning_rates(0.1), steps=5)
    >>> init(jax.random.key(0), jnp.ones(3)).rows.shape
    (5,)
    """
    check_count("steps", steps, least=1)

    def init(key: Key, fast: PyTree) -> PerStep:
        values = hyper(key, fast)
        return PerStep(
            jax.tree.map(lambda v: jnp.repeat(jnp.asarray(v)[None], steps, axis=0), values)
        )

    return init
