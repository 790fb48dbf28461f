"""Models one after the other, as one model with named parts."""

from typing import Any

import jax

from jaxmeta.types import Array, Key, Model, PyTree


def chained(**parts: Model) -> Model:
    r"""Each model sees the outputs of the one before: :math:`f(x) = f_L(\cdots f_2(f_1(x)))`.

    Args:
      **parts: the models by name, in order.

    Returns:
      A model whose parameters and state are dictionaries of its parts' parameters and states.

    Raises:
      ValueError: there is no part.

    >>> import jax.numpy as jnp
    >>> from jaxmeta.nn import mlp
    >>> model = chained(model=mlp(6), projector=mlp(4, hidden=[8]))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((3, 5)))
    >>> list(params), model.apply(params, state, jnp.ones((3, 5)))[0].shape
    (['model', 'projector'], (3, 4))
    """
    if not parts:
        raise ValueError("chained got 0 models: give at least one.")

    def init(key: Key, x: PyTree) -> tuple[PyTree, PyTree]:
        params: dict[str, Any] = {}
        state: dict[str, Any] = {}
        for (name, part), own in zip(parts.items(), jax.random.split(key, len(parts)), strict=True):
            params[name], state[name] = part.init(own, x)
            x, _ = part.apply(params[name], state[name], x)
        return params, state

    def apply(
        params: PyTree,
        state: PyTree,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
        batch_statistics: bool = True,
    ) -> tuple[Array, PyTree]:
        keys = [None] * len(parts) if key is None else jax.random.split(key, len(parts))
        used: dict[str, Any] = {}
        for (name, part), own in zip(parts.items(), keys, strict=True):
            x, used[name] = part.apply(params[name], state[name], x, mask, own, batch_statistics)
        return x, used

    return Model(init, apply)
