"""Random changes to images of things, which leave their class as it is."""

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.types import Array, Augment, Key


def crop_and_mirror(padding: int = 4) -> Augment:
    """A random crop of the padded image, flipped left to right with probability 1/2.

    The image is padded with zeros and a window of its own size is cut out of it, each with the same
    probability. It suits images of things: the mirror image of a character is another character.

    Args:
      padding: number of pixels added on each side; 0 mirrors only.

    Returns:
      ``(key, image [height, width, channels]) -> image`` of the same shape, for
      :func:`jaxmeta.objectives.augmented`.

    Raises:
      ValueError: ``padding`` is not a non-negative integer, or (when called) the image does not
        have three axes.

    References:
      He, Zhang, Ren and Sun, 2016, Deep Residual Learning for Image Recognition, section 4.2.

    >>> import jax, jax.numpy as jnp
    >>> crop_and_mirror(padding=2)(jax.random.key(0), jnp.ones((8, 8, 3))).shape
    (8, 8, 3)
    """
    check_count("padding", padding)
    # Not imported with the library, because it defines flags of absl.
    import dm_pix

    def augment(key: Key, image: Array) -> Array:
        if getattr(image, "ndim", None) != 3:
            raise ValueError(
                f"crop_and_mirror got an example of shape {jax.tree.map(jnp.shape, image)}; give "
                "images [height, width, channels]."
            )
        crop_key, mirror_key = jax.random.split(key)
        around = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
        cropped = dm_pix.random_crop(crop_key, around, image.shape)
        return dm_pix.random_flip_left_right(mirror_key, cropped)

    return augment
