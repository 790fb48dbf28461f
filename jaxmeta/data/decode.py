"""From one stored example to the model's input: ``decode(example, variant) -> x``.

Examples stay as small as they are stored (images as uint8), and are decoded on the device when a
task is drawn. A *variant* of an example belongs to another class, just as a quarter turn of a
character is another character.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.types import Array, PyTree

Decode = Callable[[PyTree, Array], PyTree]
"""``(example, variant) -> x`` of one example, pure; ``variant`` is an integer from 0."""


def decode_inputs(example: PyTree, variant: int | Array = 0) -> PyTree:
    """Scales uint8 to float32 in ``[0, 1]``, and leaves everything else unchanged.

    :func:`jaxmeta.data.make_inputs` does the same to a user's own arrays.

    Args:
      example: any pytree of arrays.
      variant: not used.

    >>> import jax.numpy as jnp
    >>> decode_inputs({"image": jnp.array([0, 255], jnp.uint8), "tokens": jnp.array([3, 4])})
    {'image': Array([0., 1.], dtype=float32), 'tokens': Array([3, 4], dtype=int32)}
    """
    return jax.tree.map(_scaled, example)


def _scaled(values: Array) -> Array:
    if values.dtype != np.uint8:
        return values
    # XLA turns a division by 255 into this product; writing it as one gives the same bits without
    # jit.
    return values.astype(jnp.float32) * np.float32(1 / 255)


def decode_rotated_image(image: Array, variant: int | Array) -> Array:
    """Rotates a square image counterclockwise by ``variant`` quarter turns, scaled to ``[0, 1]``.

    ``class_source(..., decode=decode_rotated_image, variants=4)`` makes four classes from each.

    Args:
      image: ``[size, size, channels]``, uint8.
      variant: 0 to 3.

    Raises:
      ValueError: the example is not a square image.

    References:
      Santoro et al., 2016, Meta-Learning with Memory-Augmented Neural Networks.

    >>> import jax.numpy as jnp
    >>> decode_rotated_image(jnp.array([[[0], [255]], [[0], [0]]], jnp.uint8), 1)[..., 0]
    Array([[1., 0.],
           [0., 0.]], dtype=float32)
    """
    if getattr(image, "ndim", None) != 3 or image.shape[0] != image.shape[1]:
        raise ValueError(
            f"Examples of shape {jax.tree.map(jnp.shape, image)} cannot be rotated; give square "
            "images [size, size, channels], or do without rotations."
        )
    # All four turns, and a choice among them: under vmap a branch would compute all of them, too.
    turns = [jnp.rot90(image, r) for r in range(4)]
    return _scaled(jnp.select([variant == r for r in range(4)], turns))


def rotated(rotations: bool) -> dict[str, Any]:
    """The arguments that make each quarter turn of an image a class of its own, if wanted."""
    return {"decode": decode_rotated_image, "variants": 4} if rotations else {}
