"""A model written as one function of its inputs, which names the models that it uses."""

from collections.abc import Callable
from typing import Any

import jax

from jaxmeta.types import Array, Key, Model, PyTree

Use = Callable[[str, Model, PyTree], Any]
"""``(name, model, x) -> outputs`` of a part of an :func:`assembled` model."""


def assembled(forward: Callable[[Use, Any], Any]) -> Model:
    """A model with named parts, such as branches that meet again.

    ``forward(use, x)`` computes the outputs, by ``use(name, model, x)`` where it needs those of a
    part. The parts get the mask, randomness of their own, and their parameters and state by name.
    For parts that are just one after the other there is :func:`jaxmeta.nn.chained`.

    Args:
      forward: uses the same parts, in the same order, whenever it is called.

    Returns:
      A model whose parameters and state are dictionaries of its parts' parameters and states.

    Raises:
      ValueError: from ``init``, two parts have one name.

    >>> import jax.numpy as jnp
    >>> from jaxmeta.nn import mlp
    >>> def forward(use, x):
    ...     return x + use("change", mlp(5), x)
    >>> residual = assembled(forward)
    >>> params, state = residual.init(jax.random.key(0), jnp.ones((3, 5)))
    >>> list(params), residual.apply(params, state, jnp.ones((3, 5)))[0].shape
    (['change'], (3, 5))
    """

    def init(key: Key, x: PyTree) -> tuple[PyTree, PyTree]:
        params: dict[str, Any] = {}
        state: dict[str, Any] = {}

        def use(name: str, model: Model, x: PyTree) -> Any:
            if name in params:
                raise ValueError(f"Two parts of a model are called '{name}': give each a name.")
            own = jax.random.fold_in(key, len(params))
            params[name], state[name] = model.init(own, x)
            return model.apply(params[name], state[name], x)[0]

        forward(use, x)
        return params, state

    def apply(
        params: PyTree,
        state: PyTree,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
        batch_statistics: bool = True,
    ) -> tuple[Array, PyTree]:
        used: dict[str, Any] = {}

        def use(name: str, model: Model, x: PyTree) -> Any:
            own = None if key is None else jax.random.fold_in(key, len(used))
            outputs, used[name] = model.apply(
                params[name], state[name], x, mask, own, batch_statistics
            )
            return outputs

        return forward(use, x), used

    return Model(init, apply)
