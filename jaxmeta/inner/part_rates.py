"""Separate rates for parts of the parameters, which may also be frozen."""

from collections.abc import Mapping
from typing import Any

import jax
import optax

from jaxmeta.inner.leaves import path_name, within
from jaxmeta.types import PyTree


def with_rates(
    optimizer: optax.GradientTransformation, rates: Mapping[str, float]
) -> optax.GradientTransformation:
    """Multiplies an optimizer's updates by a factor for each named part of the parameters.

    Args:
      optimizer: any optax transformation.
      rates: factors by the names of parts, as in ``{"model": 0.0, "model/block3": 0.1}``: 0 freezes
        a part. The longest name that matches a leaf decides; other leaves have a factor of 1.

    Returns:
      An optimizer whose ``init`` raises ``ValueError`` if a name matches no part.

    >>> import jax.numpy as jnp
    >>> optimizer = with_rates(optax.sgd(1.0), {"model": 0.1})
    >>> params = {"model": jnp.ones(()), "head": jnp.ones(())}
    >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
    >>> updates["model"].item(), updates["head"].item()
    (-0.1..., -1.0)
    """
    if not rates:
        return optimizer

    def init(params: PyTree) -> Any:
        names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        for part in rates:
            if not any(within(name, part) for name in names):
                raise ValueError(
                    f"No parameter is in the part '{part}': give parts of {', '.join(names)}."
                )
        return optimizer.init(params)

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Any]:
        updates, state = optimizer.update(updates, state, params)

        def scaled(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
            name = path_name(path)
            chosen = max((part for part in rates if within(name, part)), key=len, default=None)
            return leaf if chosen is None else leaf * rates[chosen]

        return jax.tree_util.tree_map_with_path(scaled, updates), state

    return optax.GradientTransformation(init, update)
