"""Random augmentations of one image, which do not alter what it shows, and their combinations.

Each is a function ``(key, image [height, width, channels]) -> image`` of the same shape, for
:func:`jaxmeta.objectives.augmented` and :func:`jaxmeta.objectives.two_views`. Pixels from outside
an image are 0, and so are erased ones: the color of paper, where ink is 1.
"""

import math

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.types import Array, Augment, Key, PyTree


def unchanged(key: Key, x: PyTree) -> PyTree:
    """Leaves an example unchanged.

    >>> unchanged(jax.random.key(0), 3.0)
    3.0
    """
    return x


def composed(*changes: Augment) -> Augment:
    """Applies one augmentation after the other, each with its own key.

    Args:
      *changes: the augmentations, in order; in a spec, a list named ``changes``.

    >>> twice = composed(lambda key, x: x + 1, lambda key, x: 2 * x)
    >>> twice(jax.random.key(0), 3)
    8
    """

    def augment(key: Key, x: PyTree) -> PyTree:
        for change, own in zip(changes, jax.random.split(key, max(len(changes), 1)), strict=False):
            x = change(own, x)
        return x

    return augment


def sometimes(probability: float, change: Augment) -> Augment:
    """Applies an augmentation with a given probability.

    Args:
      probability: how often it is applied, from 0 to 1.
      change: the augmentation; it is computed in either case.

    Raises:
      ValueError: ``probability`` is outside [0, 1].

    >>> negative = sometimes(0.5, lambda key, x: -x)
    >>> keys = jax.random.split(jax.random.key(0), 100)
    >>> bool(jnp.abs(jax.vmap(negative, (0, None))(keys, 1.0).mean()) < 0.4)
    True
    """
    check_share("probability", probability)

    def augment(key: Key, x: PyTree) -> PyTree:
        own, key = jax.random.split(key)
        made, chosen = change(key, x), jax.random.bernoulli(own, probability)
        return jax.tree.map(lambda new, old: jnp.where(chosen, new, old), made, x)

    return augment


def shift(pixels: int) -> Augment:
    """Shifts an image by a whole number of pixels along each axis, uniformly at random.

    Args:
      pixels: the largest distance.

    Raises:
      ValueError: ``pixels`` is not a non-negative integer, or (when called) the image does not have
        three axes.

    >>> shift(2)(jax.random.key(0), jnp.ones((8, 8, 1))).sum() >= 36
    Array(True, dtype=bool)
    """
    check_count("pixels", pixels)
    # Not imported with the library, because it defines absl flags.
    import dm_pix

    def augment(key: Key, image: Array) -> Array:
        check_image("shift", image)
        around = jnp.pad(image, ((pixels, pixels), (pixels, pixels), (0, 0)))
        shifted: Array = dm_pix.random_crop(key, around, image.shape)
        return shifted

    return augment


def resized_crop(
    scale: tuple[float, float] = (0.2, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3)
) -> Augment:
    r"""Crops a random part of an image and resizes it to the size of the image.

    With :math:`s` times the image's area and :math:`r` times its aspect ratio, the part is
    :math:`\sqrt{s / r}` as high and :math:`\sqrt{s r}` as wide as the image. A part beyond the
    image, as with :math:`s > 1`, makes its content smaller.

    Args:
      scale: smallest and largest s, drawn uniformly.
      ratio: smallest and largest r, drawn uniformly on a logarithmic scale; neither side is longer
        than the image's own, or than the largest s makes it.

    Raises:
      ValueError: the bounds are not positive or not in order, or (when called) the image does not
        have three axes.

    References:
      Szegedy et al., 2015, Going Deeper with Convolutions, section 6; Chen et al., 2020, A Simple
      Framework for Contrastive Learning of Visual Representations, appendix A.

    >>> resized_crop((0.5, 1.0))(jax.random.key(0), jnp.ones((8, 6, 3))).shape
    (8, 6, 3)
    """
    check_bounds("scale", scale)
    check_bounds("ratio", ratio)

    def augment(key: Key, image: Array) -> Array:
        check_image("resized_crop", image)
        sides_key, place_key = jax.random.split(key)
        sides = jnp.minimum(_sides(sides_key, scale, ratio), max(1, scale[1]) ** 0.5)
        place = jax.random.uniform(place_key, (2,))
        return cut_and_resize(image, place * (1 - sides), sides)

    return augment


def cut_and_resize(image: Array, start: Array, sides: Array) -> Array:
    """Resizes a part of an image to the image's size, interpolating linearly, or averaging.

    Args:
      image: ``[height, width, channels]``.
      start: ``[2]``, the part's upper left corner, as shares of the image's height and width.
      sides: ``[2]``, the part's height and width, likewise. A part larger than the image is
        averaged.

    Where the part ends within the image, its border is interpolated with what lies beyond it.

    >>> image = jnp.arange(4.0).reshape(1, 4, 1)
    >>> cut_and_resize(image, jnp.array([0.0, 0.25]), jnp.array([1.0, 0.5]))[0, :, 0].tolist()
    [0.75, 1.25, 1.75, 2.25]
    """
    # In the enlarged image, whose side is size / sides, the part starts at this share of it.
    size = jnp.array(image.shape[:2], jnp.float32)
    translation = -start / sides * size
    return jax.image.scale_and_translate(
        image, image.shape, (0, 1), 1 / sides, translation, method="linear"
    )


def erase(
    scale: tuple[float, float] = (0.02, 0.33), ratio: tuple[float, float] = (0.3, 3.3)
) -> Augment:
    """Erases a random rectangle.

    Args:
      scale: smallest and largest share of the image's area, drawn uniformly.
      ratio: smallest and largest ratio of its width to its height, both as shares of the image's,
        drawn uniformly on a logarithmic scale; neither side is longer than the image's.

    Raises:
      ValueError: the bounds are not positive or not in order, or (when called) the image does not
        have three axes.

    References:
      Zhong et al., 2020, Random Erasing Data Augmentation, algorithm 1.

    >>> erased = erase((0.25, 0.25), (1.0, 1.0))(jax.random.key(0), jnp.ones((8, 8, 1)))
    >>> int(64 - erased.sum())
    16
    """
    check_bounds("scale", scale)
    check_bounds("ratio", ratio)

    def augment(key: Key, image: Array) -> Array:
        check_image("erase", image)
        sides_key, place_key = jax.random.split(key)
        size = jnp.array(image.shape[:2], jnp.float32)
        sides = jnp.round(jnp.minimum(_sides(sides_key, scale, ratio), 1) * size)
        # Whole pixels, so that all places where it fits are equally likely.
        start = jnp.floor(jax.random.uniform(place_key, (2,)) * (size - sides + 1))
        first, end = start.astype(jnp.int32), (start + sides).astype(jnp.int32)
        rows, columns = (
            (jnp.arange(length) >= first[axis]) & (jnp.arange(length) < end[axis])
            for axis, length in enumerate(image.shape[:2])
        )
        gone = rows[:, None, None] & columns[None, :, None]
        return jnp.where(gone, jnp.zeros_like(image), image)

    return augment


def drop_pixels(probability: float) -> Augment:
    """Erases each pixel with a given probability, in all channels.

    Args:
      probability: the share of the pixels that are erased, from 0 to 1.

    Raises:
      ValueError: ``probability`` is outside [0, 1], or (when called) the image does not have
        three axes.

    References:
      Khodadadeh, Bölöni and Shah, 2019, Unsupervised Meta-Learning for Few-Shot Image
      Classification, section 4.1.

    >>> left = drop_pixels(0.5)(jax.random.key(0), jnp.ones((50, 50, 1))).mean()
    >>> bool(abs(left - 0.5) < 0.05)
    True
    """
    check_share("probability", probability)

    def augment(key: Key, image: Array) -> Array:
        check_image("drop_pixels", image)
        kept = jax.random.bernoulli(key, 1 - probability, (*image.shape[:2], 1))
        return jnp.where(kept, image, jnp.zeros_like(image))

    return augment


def mirror() -> Augment:
    """Flips an image left to right with probability 1/2.

    Raises:
      ValueError: when called, the image does not have three axes.

    >>> keys, image = jax.random.split(jax.random.key(0), 100), jnp.arange(2.0).reshape(1, 2, 1)
    >>> made = jax.vmap(mirror(), (0, None))(keys, image)
    >>> bool(0.3 < made[:, 0, 0].mean() < 0.7)
    True
    """
    import dm_pix  # as in `shift`

    def augment(key: Key, image: Array) -> Array:
        check_image("mirror", image)
        return dm_pix.random_flip_left_right(key, image)

    return augment


def crop_and_mirror(padding: int = 4) -> Augment:
    """Crops the padded image at random, and flips it left to right with probability 1/2.

    The image is padded with zeros, and a window of its original size is cut out, uniformly at
    random. It suits images of objects: the mirror image of a character is another character.

    Args:
      padding: number of pixels added on each side; 0 only mirrors.

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
    change = composed(shift(padding), mirror())

    def augment(key: Key, image: Array) -> Array:
        check_image("crop_and_mirror", image)
        return change(key, image)

    return augment


def check_image(name: str, image: Array) -> None:
    """Raises ``ValueError`` unless an example is an image ``[height, width, channels]``."""
    if getattr(image, "ndim", None) != 3:
        raise ValueError(
            f"{name} got an example of shape {jax.tree.map(jnp.shape, image)}; give images "
            "[height, width, channels]."
        )


def check_bounds(name: str, bounds: tuple[float, float]) -> None:
    """Raises ``ValueError`` unless a range is two positive numbers in order."""
    try:
        least, most = bounds
        ordered = 0 < least <= most
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is {bounds!r}: give a range, two numbers.") from error
    if not ordered:
        raise ValueError(f"{name} is {(least, most)}: give two positive numbers in order.")


def check_share(name: str, value: float, most: float = 1) -> None:
    """Raises ``ValueError`` unless a number is from 0 to ``most``."""
    if not 0 <= value <= most:
        raise ValueError(f"{name} is {value}: give a number from 0 to {most}.")


def _sides(key: Key, scale: tuple[float, float], ratio: tuple[float, float]) -> Array:
    """Height and width of a part, as shares of the image's, for a random area and ratio."""
    scale_key, ratio_key = jax.random.split(key)
    area = jax.random.uniform(scale_key, (), minval=scale[0], maxval=scale[1])
    least, most = (math.log(bound) for bound in ratio)
    aspect = jnp.exp(jax.random.uniform(ratio_key, (), minval=least, maxval=most))
    return jnp.sqrt(jnp.stack([area / aspect, area * aspect]))
