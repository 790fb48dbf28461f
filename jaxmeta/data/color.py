"""Random augmentations of the color and sharpness of one image, for self-supervised learning.

Like those of :mod:`jaxmeta.data.augment`, each is a function
``(key, image [height, width, channels]) -> image`` of the same shape and type. Images are floats in
[0, 1], and stay there.
"""

import math

import jax
import jax.numpy as jnp

from jaxmeta.data.augment import (
    check_bounds,
    check_image,
    check_share,
    composed,
    mirror,
    resized_crop,
    sometimes,
)
from jaxmeta.types import Array, Augment, Key


def brightness(strength: float) -> Augment:
    r"""Multiplies an image by a random factor.

    :math:`f x`, clipped at 1, where :math:`f` is drawn uniformly from
    :math:`[\max(0, 1 - s), 1 + s]`. It is a product as in torchvision and the second version of
    SimCLR, not a sum as in TensorFlow and PIX.

    Args:
      strength: s, 0 or more.

    Raises:
      ValueError: ``strength`` is negative, or (when called) the image does not have three axes or
        is not of floats.

    References:
      Chen et al., 2020, Big Self-Supervised Models are Strong Semi-Supervised Learners.

    >>> image = jnp.array([[[0.2, 0.4, 0.0]]])
    >>> made = brightness(0.5)(jax.random.key(0), image)
    >>> bool(0.5 <= made[0, 0, 0] / 0.2 <= 1.5), bool(jnp.allclose(made[..., 1], 2 * made[..., 0]))
    (True, True)
    """
    _check_strength("strength", strength)

    def augment(key: Key, image: Array) -> Array:
        _check_colors("brightness", image)
        return jnp.clip(_factor(key, strength, image) * image, 0, 1)

    return augment


def contrast(strength: float) -> Augment:
    r"""Multiplies the distance of an image from its mean by a random factor, in each channel.

    :math:`\bar x + f (x - \bar x)`, clipped at 0 and 1, where :math:`f` is drawn as in
    :func:`brightness` and :math:`\bar x` is the mean of a channel. This is contrast as in
    TensorFlow and PIX; torchvision uses the mean of the gray image.

    Args:
      strength: s, 0 or more.

    Raises:
      ValueError: ``strength`` is negative, or (when called) the image does not have three axes or
        is not of floats.

    >>> image = jnp.array([[[0.4], [0.6]]])
    >>> made = contrast(0.5)(jax.random.key(0), image)
    >>> bool(0.1 <= made[0, 1, 0] - made[0, 0, 0] <= 0.3), bool(jnp.allclose(made.mean(), 0.5))
    (True, True)
    """
    _check_strength("strength", strength)
    import dm_pix  # as in `shift`

    def augment(key: Key, image: Array) -> Array:
        _check_colors("contrast", image)
        return jnp.clip(dm_pix.adjust_contrast(image, _factor(key, strength, image)), 0, 1)

    return augment


def saturation(strength: float) -> Augment:
    r"""Multiplies the saturation of an image by a random factor.

    In hue, saturation and value (HSV), :math:`\min(1, f \cdot \text{saturation})`, where :math:`f`
    is drawn as in :func:`brightness`: the largest of the three channels is unchanged, and the other
    two move away from it or towards it. This is saturation as in TensorFlow and PIX; torchvision
    mixes an image with its gray version.

    Args:
      strength: s, 0 or more.

    Raises:
      ValueError: ``strength`` is negative, or (when called) the image does not have three axes and
        three channels or is not of floats.

    >>> made = saturation(0.5)(jax.random.key(0), jnp.array([[[0.8, 0.4, 0.6]]]))[0, 0]
    >>> bool(made[0] == 0.8), bool(0.2 <= made[1] <= 0.6)
    (True, True)
    """
    _check_strength("strength", strength)
    import dm_pix  # as in `shift`

    def augment(key: Key, image: Array) -> Array:
        _check_colors("saturation", image, rgb=True)
        factor = _factor(key, strength, image)
        with jax.numpy_dtype_promotion("standard"):  # PIX adds truth values to numbers
            return jnp.clip(dm_pix.adjust_saturation(image, factor), 0, 1)

    return augment


def hue(strength: float) -> Augment:
    """Shifts the hue of an image, by the same random angle at all pixels.

    In hue, saturation and value (HSV), hue is an angle. The shift is drawn uniformly from -strength
    to strength, in full turns: a third of a turn makes red green. The largest and the smallest of
    the three channels are unchanged, and so are shades of gray.

    Args:
      strength: the largest shift in full turns, from 0 to 1/2, where all hues are equally likely.

    Raises:
      ValueError: ``strength`` is outside [0, 1/2], or (when called) the image does not have
        three axes and three channels or is not of floats.

    >>> made = hue(0.5)(jax.random.key(0), jnp.array([[[0.8, 0.4, 0.6]]]))[0, 0]
    >>> bool(jnp.allclose(made.max(), 0.8)), bool(jnp.allclose(made.min(), 0.4))
    (True, True)
    """
    check_share("strength", strength, most=0.5)
    import dm_pix  # as in `shift`

    def augment(key: Key, image: Array) -> Array:
        _check_colors("hue", image, rgb=True)
        turns = jax.random.uniform(key, (), image.dtype, -strength, strength)
        with jax.numpy_dtype_promotion("standard"):  # as in `saturation`
            return jnp.clip(dm_pix.adjust_hue(image, turns), 0, 1)

    return augment


# `color_jitter` uses these names for numbers.
_JITTERED = (brightness, contrast, saturation, hue)


def color_jitter(
    brightness: float = 0.4, contrast: float = 0.4, saturation: float = 0.2, hue: float = 0.1
) -> Augment:
    """Changes brightness, contrast, saturation and hue, one after the other.

    The order is fixed. Others draw it for each image, but under ``vmap`` a random order would
    compute each of the four changes in each of the four places.

    Args:
      brightness: strength of :func:`~jaxmeta.data.brightness`.
      contrast: strength of :func:`~jaxmeta.data.contrast`.
      saturation: strength of :func:`~jaxmeta.data.saturation`.
      hue: strength of :func:`~jaxmeta.data.hue`.

    Raises:
      ValueError: a strength is negative, or that of hue above 1/2, or (when called) the image
        does not have three axes and three channels or is not of floats.

    References:
      Grill et al., 2020, Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning,
      appendix B, for the strengths; its brightness is a sum.

    >>> color_jitter()(jax.random.key(0), jnp.ones((8, 8, 3))).shape
    (8, 8, 3)
    """
    _check_strength("brightness", brightness)
    _check_strength("contrast", contrast)
    _check_strength("saturation", saturation)
    check_share("hue", hue, most=0.5)
    strengths = (brightness, contrast, saturation, hue)
    return composed(*(make(each) for make, each in zip(_JITTERED, strengths, strict=True)))


def gray() -> Augment:
    """Turns an image gray, with all three channels 0.30 red + 0.59 green + 0.11 blue.

    It is not random: ``sometimes(0.2, gray())`` is the usual augmentation.

    Raises:
      ValueError: when called, the image does not have three axes and three channels or is not of
        floats.

    >>> red = gray()(jax.random.key(0), jnp.array([[[1.0, 0.0, 0.0]]]))
    >>> [f"{each:.2f}" for each in red[0, 0]]
    ['0.30', '0.30', '0.30']
    """
    import dm_pix  # as in `shift`

    def augment(key: Key, image: Array) -> Array:
        _check_colors("gray", image, rgb=True)
        return dm_pix.rgb_to_grayscale(image, keep_dims=True)

    return augment


def solarize(threshold: float = 0.5) -> Augment:
    """Inverts bright values: x becomes 1 - x where it is at least the threshold.

    It is not random: ``sometimes(0.2, solarize())`` is the usual augmentation.

    Args:
      threshold: from 0, which inverts everything, to 1.

    Raises:
      ValueError: ``threshold`` is outside [0, 1], or (when called) the image does not have three
        axes or is not of floats.

    References:
      Grill et al., 2020, Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning,
      appendix B.

    >>> solarize()(jax.random.key(0), jnp.array([[[0.25], [0.75]]])).tolist()
    [[[0.25], [0.25]]]
    """
    check_share("threshold", threshold)
    import dm_pix  # as in `shift`

    def augment(key: Key, image: Array) -> Array:
        _check_colors("solarize", image)
        return dm_pix.solarize(image, threshold)

    return augment


def blur(sigma: tuple[float, float] = (0.1, 2.0)) -> Augment:
    r"""Blurs an image with a Gaussian of random width.

    Each channel becomes :math:`G_h x G_w^\top`, where row i of G holds the weights
    :math:`e^{-(i - j)^2 / 2 \sigma^2}` of the pixels j, divided by their sum. So nothing comes from
    outside the image, and an image of a single color is unchanged. Unlike convolutions, two matrix
    products are fast even where each image has its own width.

    Args:
      sigma: smallest and largest width in pixels, drawn uniformly. The usual 0.1 to 2 is for images
        of 224 pixels; those of 32 are usually not blurred.

    Raises:
      ValueError: the bounds are not positive or not in order, or (when called) the image does not
        have three axes or is not of floats.

    References:
      Chen et al., 2020, A Simple Framework for Contrastive Learning of Visual Representations,
      appendix A, where the Gaussian is truncated and the image padded with zeros.

    >>> edge = jnp.repeat(jnp.array([0.0, 1.0]), 8).reshape(1, 16, 1)
    >>> made = blur((1.0, 1.0))(jax.random.key(0), edge)[0, :, 0]
    >>> [f"{each:.2f}" for each in made[5:11]]
    ['0.00', '0.06', '0.30', '0.70', '0.94', '1.00']
    """
    check_bounds("sigma", sigma)

    def augment(key: Key, image: Array) -> Array:
        _check_colors("blur", image)
        width = jax.random.uniform(key, (), jnp.float32, *sigma)
        rows, columns = (_gaussian(size, width).astype(image.dtype) for size in image.shape[:2])
        blurred = jnp.einsum("ij,jkc,lk->ilc", rows, image, columns, precision="highest")
        return jnp.clip(blurred, 0, 1)

    return augment


def simclr_augmentation(strength: float = 0.5, scale: tuple[float, float] = (0.2, 1.0)) -> Augment:
    """SimCLR's augmentation for small images: a random crop, mirroring and changes of color.

    It is :func:`~jaxmeta.data.resized_crop`, :func:`~jaxmeta.data.mirror`, with probability 0.8
    :func:`~jaxmeta.data.color_jitter` of 0.8, 0.8, 0.8 and 0.2 times the strength, and with
    probability 0.2 :func:`~jaxmeta.data.gray`. BYOL's is a variation with other strengths, and with
    :func:`~jaxmeta.data.blur` and :func:`~jaxmeta.data.solarize` at probabilities that differ
    between the two views.

    Args:
      strength: of the changes of color, from 0 to 2.5; the paper uses 0.5 for CIFAR-10 and 1 for
        ImageNet, the latter with :func:`~jaxmeta.data.blur` of every other image.
      scale: smallest and largest area of the crop, as shares of the image's; the paper uses
        (0.08, 1).

    Raises:
      ValueError: ``strength`` is outside [0, 2.5], the bounds are not positive or not in order,
        or (when called) the image does not have three axes and three channels or is not of floats.

    References:
      Chen et al., 2020, A Simple Framework for Contrastive Learning of Visual Representations,
      appendices A and B.9.

    >>> simclr_augmentation()(jax.random.key(0), jnp.ones((8, 8, 3))).shape
    (8, 8, 3)
    """
    check_share("strength", strength, most=2.5)
    most, turns = 0.8 * strength, 0.2 * strength
    return composed(
        resized_crop(scale),
        mirror(),
        sometimes(0.8, color_jitter(most, most, most, turns)),
        sometimes(0.2, gray()),
    )


def _factor(key: Key, strength: float, image: Array) -> Array:
    """A random factor around 1, not negative, in the type of the image."""
    return jax.random.uniform(key, (), image.dtype, max(0, 1 - strength), 1 + strength)


def _gaussian(size: int, sigma: Array) -> Array:
    """Weights ``[size, size]`` of the pixels of a line; row i holds those for pixel i."""
    place = jnp.arange(size, dtype=jnp.float32)
    distance = (place[:, None] - place[None, :]) / sigma
    return jax.nn.softmax(-(distance**2) / 2, axis=1)


def _check_strength(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} is {value}: give a number, 0 or more.")


def _check_colors(name: str, image: Array, rgb: bool = False) -> None:
    check_image(name, image)
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(f"{name} got an image of type {image.dtype}; give floats in [0, 1].")
    if rgb and image.shape[2] != 3:
        raise ValueError(
            f"{name} got an image of {image.shape[2]} channels; give red, green and blue."
        )
