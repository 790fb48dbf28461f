"""Random changes of colors, by what each must keep and by closed forms of what it makes."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxmeta.data import (
    blur,
    brightness,
    color_jitter,
    contrast,
    crop_and_mirror,
    gray,
    hue,
    mirror,
    saturation,
    shift,
    simclr_augmentation,
    solarize,
)

KEY = jax.random.key(0)
# With colors that are equal, black, white and gray, where hue and saturation have no single value.
IMAGE = (
    jax.random.uniform(KEY, (6, 9, 3))
    .at[0, :4]
    .set(jnp.array([[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5], [1, 0.5, 1]]))
)
PIXELS = np.asarray(IMAGE)
CHANGES = {
    "brightness": brightness(0.7),
    "contrast": contrast(1.5),
    "saturation": saturation(0.9),
    "hue": hue(0.5),
    "color_jitter": color_jitter(),
    "gray": gray(),
    "solarize": solarize(0.3),
    "blur": blur(),
    "simclr": simclr_augmentation(1.0),
}
each_change = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


def made(change, count=300, image=IMAGE):
    """What a change makes of an image, by many keys."""
    keys = jax.random.split(KEY, count)
    return np.asarray(jax.jit(jax.vmap(change, (0, None)))(keys, image))


@each_change
def test_a_change_keeps_range_type_and_shape_and_is_that_of_one_example(change):
    images = made(change)
    assert images.dtype == np.float32
    assert images.shape[1:] == IMAGE.shape
    assert images.min() >= 0
    assert images.max() <= 1
    for number in (3, 7):
        one = change(jax.random.split(KEY, 300)[number], IMAGE)  # neither vmap nor jit
        np.testing.assert_allclose(images[number], one, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in CHANGES if name != "simclr"])
def test_a_change_of_color_keeps_half_precision(name):
    half = jax.ShapeDtypeStruct(IMAGE.shape, jnp.bfloat16)
    assert jax.eval_shape(CHANGES[name], KEY, half) == half


@pytest.mark.parametrize(
    "change",
    [brightness(0), contrast(0), saturation(0), hue(0), color_jitter(0, 0, 0, 0), blur((0.1, 0.1))],
    ids=["brightness", "contrast", "saturation", "hue", "color_jitter", "blur"],
)
def test_without_strength_nothing_changes(change):
    np.testing.assert_allclose(change(KEY, IMAGE), IMAGE, atol=1e-6)


def spread_over(values, least, most):
    """Whether values could be drawn uniformly from a range, and reach both of its ends."""
    margin = 0.03 * (most - least)
    uniform = np.linspace(least, most, len(values))
    return (
        least - 1e-5 <= values.min() < least + margin
        and most - margin < values.max() <= most + 1e-5
        and np.abs(np.sort(values) - uniform).max() < 0.1 * (most - least)
    )


@pytest.mark.parametrize(("strength", "least", "most"), [(0.4, 0.6, 1.4), (1.5, 0.0, 2.5)])
def test_brightness_contrast_and_saturation_are_factors(strength, least, most):
    """Of the image, of the distance to the mean of a channel, and of saturation."""
    rows, columns = np.mgrid[:6, :8].astype(np.float32) / 100
    pale = np.stack([0.3 + rows, 0.28 + columns, 0.25 + rows], axis=-1)  # so nothing is cut off
    mean = pale.mean(axis=(0, 1))

    def saturations(images):
        return 1 - images.min(axis=-1, keepdims=True) / images.max(axis=-1, keepdims=True)

    colored = made(saturation(strength), image=pale)
    np.testing.assert_allclose(colored.max(axis=-1), 0 * colored[..., 0] + pale.max(axis=-1))
    for ratios in (
        made(brightness(strength), image=pale) / pale,
        (made(contrast(strength), image=pale) - mean) / (pale - mean),
        saturations(colored) / saturations(pale),
    ):
        factors = np.median(ratios, axis=(1, 2, 3))
        np.testing.assert_allclose(ratios, 0 * ratios + factors[:, None, None, None], atol=1e-3)
        assert spread_over(factors, least, most)


def test_hue_and_saturation_are_those_of_colorsys():
    """Hue goes round, saturation is cut off at 1, and both leave gray and the largest color."""
    keys = jax.random.split(KEY, 20)
    turns = [jax.random.uniform(key, minval=-0.5, maxval=0.5).item() for key in keys]
    factors = [jax.random.uniform(key, minval=0, maxval=2).item() for key in keys]
    turned, colored = made(hue(0.5), 20), made(saturation(1.0), 20)
    for pixel in np.ndindex(PIXELS.shape[:2]):
        h, s, v = colorsys.rgb_to_hsv(*PIXELS[pixel].tolist())
        expected = [colorsys.hsv_to_rgb((h + turn) % 1, s, v) for turn in turns]
        np.testing.assert_allclose(turned[:, *pixel], expected, atol=1e-5)
        expected = [colorsys.hsv_to_rgb(h, min(1, s * factor), v) for factor in factors]
        np.testing.assert_allclose(colored[:, *pixel], expected, atol=1e-5)
    for images in (turned, colored):
        np.testing.assert_array_equal(images[:, 0, :3], np.stack(20 * [PIXELS[0, :3]]))
        largest = images.max(axis=-1)
        np.testing.assert_allclose(largest, np.stack(20 * [PIXELS.max(axis=-1)]), rtol=1e-6)


def test_jitter_is_its_four_changes_in_order():
    keys = jax.random.split(KEY, 4)
    image = IMAGE
    changes = brightness(0.3), contrast(0.5), saturation(0.7), hue(0.2)
    for key, change in zip(keys, changes, strict=True):
        image = change(key, image)
    np.testing.assert_array_equal(color_jitter(0.3, 0.5, 0.7, 0.2)(KEY, IMAGE), image)


def test_gray_has_equal_channels_of_the_weighted_colors():
    image = np.asarray(gray()(KEY, IMAGE))
    expected = PIXELS @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(image, expected[..., None].repeat(3, -1), atol=2e-4)
    assert np.ptp(image, axis=-1).max() == 0


def test_solarized_is_inverted_from_the_threshold_on():
    image = np.asarray(solarize(0.25)(KEY, IMAGE.at[0, 0].set(0.25)))
    expected = np.where(PIXELS < 0.25, PIXELS, 1 - PIXELS)
    expected[0, 0] = 0.75
    np.testing.assert_allclose(image, expected)
    np.testing.assert_array_equal(solarize(0)(KEY, IMAGE), 1 - IMAGE)


@pytest.mark.parametrize("sigma", [0.4, 1.5])
def test_blur_is_a_gaussian_filter_inside_and_keeps_a_single_color(sigma):
    image = jax.random.uniform(KEY, (40, 30, 2))
    blurred = np.asarray(blur((sigma, sigma))(KEY, image))
    expected = scipy.ndimage.gaussian_filter(image, (sigma, sigma, 0), truncate=6)
    inside = slice(10, 20)
    np.testing.assert_allclose(blurred[inside, inside], expected[inside, inside], atol=1e-6)
    # At the border it is the mean of what there is.
    sums, counts = (
        scipy.ndimage.gaussian_filter(x, (sigma, sigma, 0), mode="constant", truncate=10)
        for x in (image, np.ones_like(image))
    )
    np.testing.assert_allclose(blurred, sums / counts, atol=1e-5)
    constant = made(blur(), 50, jnp.full((6, 9, 2), 0.7))
    np.testing.assert_allclose(constant, 0.7, atol=1e-6)


def test_widths_of_a_blur_are_drawn_from_the_range():
    """Of an edge in the middle, the steepest slope tells the width."""
    edge = jnp.repeat(jnp.array([0.0, 1.0]), 25)[None, :, None]
    images = made(blur((1.0, 3.0)), 300, edge)[:, 0, :, 0]
    heights = images[:, 25] - images[:, 24]
    places = np.arange(-30, 31)
    widths = np.linspace(1, 3, 2001)
    tops = 1 / np.exp(-(places[None] ** 2) / (2 * widths[:, None] ** 2)).sum(axis=1)
    assert spread_over(np.interp(-heights, -tops, widths), 1, 3)


def test_one_of_the_two_mirror_images():
    images = made(mirror(), 400)
    plain = np.all(images == PIXELS, axis=(1, 2, 3))
    mirrored = np.all(images == PIXELS[:, ::-1], axis=(1, 2, 3))
    assert np.all(plain ^ mirrored)
    assert abs(plain.mean() - 0.5) < 5 * 0.5 / 400**0.5
    keys = jax.random.split(KEY)
    moved = mirror()(keys[1], shift(2)(keys[0], IMAGE))
    np.testing.assert_array_equal(crop_and_mirror(2)(KEY, IMAGE), moved)


def test_views_of_simclr_are_as_often_gray_and_jittered_as_was_said():
    """Crops of an image of one color are of that color, so what differs is the color."""
    image = jnp.tile(jnp.array([0.6, 0.3, 0.2]), (4, 4, 1))
    views = made(simclr_augmentation(0.5), 2_000, image)
    np.testing.assert_allclose(views, views[:, :1, :1].repeat(4, 1).repeat(4, 2), atol=1e-6)
    colors = views[:, 0, 0]
    shades = np.ptp(colors, axis=-1) == 0
    same = np.abs(colors - np.asarray(image[0, 0])).max(axis=-1) < 1e-5
    within = 5 * (0.2 * 0.8 / 2_000) ** 0.5
    assert abs(shades.mean() - 0.2) < within
    assert abs(same.mean() - 0.8 * 0.2) < within
    # Factors of 0.6 to 1.4 of the largest color, which hue and saturation keep.
    assert spread_over(colors[~same & ~shades].max(axis=-1), 0.6 * 0.6, 0.6 * 1.4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: brightness(-1), "strength is -1: give a number, 0 or more"),
        (lambda: contrast(float("nan")), "strength is nan: give a number, 0 or more"),
        (lambda: saturation(-0.5), "strength is -0.5: give a number, 0 or more"),
        (lambda: hue(0.6), "strength is 0.6: give a number from 0 to 0.5"),
        (lambda: color_jitter(saturation=-1), "saturation is -1: give a number, 0 or more"),
        (lambda: color_jitter(hue=1), "hue is 1: give a number from 0 to 0.5"),
        (lambda: solarize(1.5), "threshold is 1.5: give a number from 0 to 1"),
        (lambda: blur((2, 1)), r"sigma is \(2, 1\): give two positive numbers in order"),
        (lambda: simclr_augmentation(3), "strength is 3: give a number from 0 to 2.5"),
        (lambda: simclr_augmentation(scale=(0, 1)), r"scale is \(0, 1\): give two positive"),
    ],
)
def test_bad_arguments(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@each_change
def test_what_is_no_image_is_refused(change):
    with pytest.raises(ValueError, match=r"got an example of shape \(3,\); give images"):
        change(KEY, jnp.ones(3))


@pytest.mark.parametrize("name", [name for name in CHANGES if name != "simclr"])
def test_an_image_of_other_numbers_or_channels_is_refused(name):
    with pytest.raises(ValueError, match="got an image of type uint8; give floats in"):
        CHANGES[name](KEY, jnp.ones((4, 4, 3), jnp.uint8))
    if name in ("brightness", "contrast", "solarize", "blur"):
        assert CHANGES[name](KEY, IMAGE[..., :1]).shape == (6, 9, 1)
    else:
        with pytest.raises(ValueError, match="got an image of 1 channels; give red, green and"):
            CHANGES[name](KEY, IMAGE[..., :1])
