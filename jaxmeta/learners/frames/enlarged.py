"""Support sets to which examples are added that nobody has labeled."""

import jax
import jax.numpy as jnp

from jaxmeta.learners.frames.support import labeled
from jaxmeta.types import Array, Batch, PyTree


def enlarge(support: Batch, imagined: Array) -> Batch:
    """The support set followed by imagined examples, each labeled as the example it came from.

    An example that is padding, or has no label, adds nothing: what was imagined of it is masked.

    Args:
      support: features ``[n, d]``, their labels and mask.
      imagined: ``[extra, n, d]``, several for each example.

    Returns:
      A support set of ``n * (1 + extra)`` examples.
    """

    def again(leaf: Array) -> Array:
        every = jnp.broadcast_to(leaf[None], (imagined.shape[0], *leaf.shape))
        return every.reshape(-1, *leaf.shape[1:])

    flat = imagined.reshape(-1, imagined.shape[-1]).astype(support.x.dtype)
    return Batch(
        jnp.concatenate([support.x, flat]),
        jnp.concatenate([support.y, again(support.y)]),
        jnp.concatenate([support.mask, again(labeled(support))]),
    )


def check_features(x: PyTree, who: str) -> None:
    """Raises ``ValueError`` unless the inputs are features ``[n, d]``."""
    leaves = jax.tree.leaves(x)
    if len(leaves) != 1 or leaves[0].ndim != 2:
        shapes = ", ".join(str(leaf.shape) for leaf in leaves)
        raise ValueError(
            f"{who} works on features [n, d], and the inputs are {shapes}: put an embedding in "
            f"front, as in embedded(conv4(), {who}(...))."
        )
