"""Mixed precision: computing in fewer bits than the parameters have."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxmeta.types import Array, Key, Model, PyTree


def mixed_precision(model: Model) -> Model:
    """Computes in bfloat16, while parameters, gradients and outputs stay in float32.

    Inputs and parameters are rounded on the way in and outputs are widened on the way out, so the
    gradient of a parameter is float32 and small updates are not lost. Losses and statistics of
    batches are computed in float32.

    Args:
      model: any model.

    Returns:
      A model with the same parameters, state, inputs and outputs.

    References:
      Micikevicius et al., 2018, Mixed Precision Training, section 3.1.

    >>> from jaxmeta.nn import mlp
    >>> model, x = mixed_precision(mlp(3)), jnp.ones((4, 6))
    >>> params, state = jax.eval_shape(model.init, jax.random.key(0), x)
    >>> outputs, _ = jax.eval_shape(model.apply, params, state, x)
    >>> params["head"]["kernel"].dtype, outputs.dtype
    (dtype('float32'), dtype('float32'))
    """

    def apply(
        params: PyTree,
        state: PyTree,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
        batch_statistics: bool = True,
    ) -> tuple[Array, PyTree]:
        params, x = (_cast(tree, jnp.bfloat16) for tree in (params, x))
        outputs, used = model.apply(params, state, x, mask, key, batch_statistics)
        return _cast(outputs, jnp.float32), _cast(used, jnp.float32)

    return Model(model.init, apply)


def _cast(tree: PyTree, dtype: DTypeLike) -> PyTree:
    def cast(leaf: Array) -> Array:
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(cast, tree)
