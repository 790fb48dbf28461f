"""Which parameters weight decay applies to."""

import jax
import jax.numpy as jnp

from jaxmeta.types import PyTree


def decay_mask(params: PyTree) -> PyTree:
    """True for kernels, and False for biases, scales and offsets, which have one axis or none.

    Weight decay pulls a function towards a simple one through its kernels; biases and the
    parameters of normalization are few, and published self-supervised methods leave them out.

    Args:
      params: parameters, a pytree of arrays.

    Returns:
      Booleans in the structure of the parameters, as optax takes them:
      ``optax.adamw(1e-3, mask=decay_mask)``.

    >>> decay_mask({"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)})
    {'bias': False, 'kernel': True}
    """
    return jax.tree.map(lambda leaf: jnp.ndim(leaf) > 1, params)
