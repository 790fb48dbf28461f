"""Losses of two views: closed forms, NumPy in 64 bits, and what leaves them as they are."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta import pretraining

N, D, TAU = 6, 4, 0.3
RANDOM = np.random.default_rng(0)
FIRST, SECOND = RANDOM.normal(size=(2, N, D)).astype(np.float32)
Y = np.array([0, 1, 0, 2, 1, 0])
ONES = jnp.ones(N)
CENTER = jnp.linspace(-1, 1, D)
LOSSES = {
    "simclr": lambda a, b, mask: pretraining.simclr_loss(a, b, mask, TAU),
    "supcon": lambda a, b, mask: pretraining.supcon_loss(
        a, b, jnp.resize(jnp.asarray(Y), mask.shape), mask, TAU
    ),
    "info_nce": lambda a, b, mask: pretraining.info_nce(a, b, mask, TAU),
    "moco": lambda a, b, mask: pretraining.moco_loss(a, b, jnp.asarray(SECOND) ** 2, mask, TAU),
    "byol": pretraining.byol_loss,
    "simsiam": pretraining.simsiam_loss,
    "dino": lambda a, b, mask: pretraining.dino_loss(a, b, CENTER, mask, TAU, TAU / 2),
    "barlow_twins": pretraining.barlow_twins_loss,
    "vicreg": pretraining.vicreg_loss,
}
# The shapes of the arguments of each loss.
SHAPES = {
    "simclr_loss": [(N, D), (N, D), (N,)],
    "supcon_loss": [(N, D), (N, D), (N,), (N,)],
    "info_nce": [(N, D), (N, D), (N,)],
    "moco_loss": [(N, D), (N, D), (9, D), (N,)],
    "byol_loss": [(N, D), (N, D), (N,)],
    "simsiam_loss": [(N, D), (N, D), (N,)],
    "dino_loss": [(N, D), (N, D), (D,), (N,)],
    "barlow_twins_loss": [(N, D), (N, D), (N,)],
    "vicreg_loss": [(N, D), (N, D), (N,)],
    "mae_loss": [(N, 3, D), (N, 3, D), (N, 3), (N,)],
}


def unit(z):
    z = np.asarray(z, np.float64)
    return z / np.linalg.norm(z, axis=-1, keepdims=True)


def supcon_by_hand(first, second, y):
    z, y = np.concatenate([unit(first), unit(second)]), np.concatenate([y, y])
    losses = []
    for i in range(len(z)):
        others = [k for k in range(len(z)) if k != i]
        scale = np.log(sum(np.exp(z[i] @ z[k] / TAU) for k in others))
        positives = [k for k in others if y[k] == y[i]]
        losses.append(np.mean([scale - z[i] @ z[p] / TAU for p in positives]))
    return np.mean(losses)


def info_nce_by_hand(first, second, queue=None):
    first, second = unit(first), unit(second)
    losses = []
    for i, anchor in enumerate(first):
        against = second if queue is None else [second[i], *unit(queue)]
        scale = np.log(sum(np.exp(anchor @ key / TAU) for key in against))
        losses.append(scale - anchor @ second[i] / TAU)
    return np.mean(losses)


def barlow_by_hand(first, second):
    a, b = ((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5) for z in np.float64([first, second]))
    c = a.T @ b / len(a)
    return sum(
        (1 - c[i, i]) ** 2 if i == j else 5e-3 * c[i, j] ** 2 for i in range(D) for j in range(D)
    )


def vicreg_by_hand(first, second):
    first, second = np.float64([first, second])
    value = 25 * np.mean((first - second) ** 2)
    for z in (first, second):
        covariance = np.cov(z, rowvar=False)
        deviations = np.sqrt(np.diag(covariance) + 1e-4)
        value += 25 / 2 * np.maximum(0, 1 - deviations).mean()
        value += (np.sum(covariance**2) - np.sum(np.diag(covariance) ** 2)) / D
    return value


def cosines():
    return np.sum(unit(FIRST) * unit(SECOND), axis=1)


def dino_by_hand(student, teacher):
    def softmax(z):
        z = np.exp(z - z.max(axis=1, keepdims=True))
        return z / z.sum(axis=1, keepdims=True)

    student, teacher = np.float64([student, teacher])
    target = softmax((teacher - np.linspace(-1, 1, D)) / (TAU / 2))
    return -np.sum(target * np.log(softmax(student / TAU)), axis=1).mean()


EXPECTED = {
    "simclr": lambda: supcon_by_hand(FIRST, SECOND, np.arange(N)),
    "supcon": lambda: supcon_by_hand(FIRST, SECOND, Y),
    "info_nce": lambda: info_nce_by_hand(FIRST, SECOND),
    "moco": lambda: info_nce_by_hand(FIRST, SECOND, SECOND**2),
    "byol": lambda: 2 - 2 * cosines().mean(),
    "simsiam": lambda: -cosines().mean() / 2,
    "dino": lambda: dino_by_hand(FIRST, SECOND),
    "barlow_twins": lambda: barlow_by_hand(FIRST, SECOND),
    "vicreg": lambda: vicreg_by_hand(FIRST, SECOND),
}


@pytest.mark.parametrize("name", LOSSES)
def test_it_is_what_numpy_computes_in_64_bits(name):
    value = LOSSES[name](jnp.asarray(FIRST), jnp.asarray(SECOND), ONES)
    np.testing.assert_allclose(value, EXPECTED[name](), rtol=1e-5)


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_that_do_not_fit_are_told_while_tracing(name):
    def traced(shapes):
        given = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
        return jax.eval_shape(getattr(pretraining, name), *given)

    fitting = SHAPES[name]
    assert traced(fitting).shape == ()
    for place, shape in enumerate(fitting):
        others = [(*shape[:-1], shape[-1] + 1), (*shape, 1)]
        if shape[0] == N:
            others.append((N - 1, *shape[1:]))
        for other in others:
            said = rf"^The shapes are .*{re.escape(str(other))}.*: give \w+ \[n, .* mask \[n\]\."
            with pytest.raises(ValueError, match=said):
                traced([*fitting[:place], other, *fitting[place + 1 :]])


@pytest.mark.parametrize("name", LOSSES)
def test_padding_changes_neither_the_loss_nor_its_gradient(name):
    def padded(z):
        return jnp.concatenate([jnp.asarray(z), 1e3 * jnp.ones((2, D))])

    mask = jnp.concatenate([ONES, jnp.zeros(2)])
    value_and_grad = jax.value_and_grad(LOSSES[name], argnums=(0, 1))
    value, gradient = value_and_grad(jnp.asarray(FIRST), jnp.asarray(SECOND), ONES)
    with_padding, longer = value_and_grad(padded(FIRST), padded(SECOND), mask)
    np.testing.assert_allclose(with_padding, value, rtol=1e-5)
    for rows, more in zip(gradient, longer, strict=True):
        np.testing.assert_allclose(more[:N], rows, rtol=1e-4, atol=1e-6)
        assert not more[N:].any()


@pytest.mark.parametrize("name", ["simclr", "supcon", "info_nce", "moco", "byol", "simsiam"])
def test_directions_alone_count(name):
    turned, _ = np.linalg.qr(RANDOM.normal(size=(D, D)))
    scales = np.exp(RANDOM.normal(size=(2, N, 1)))
    given = [jnp.asarray(z * s, jnp.float32) for z, s in zip((FIRST, SECOND), scales, strict=True)]
    value = LOSSES[name](jnp.asarray(FIRST), jnp.asarray(SECOND), ONES)
    np.testing.assert_allclose(LOSSES[name](*given, ONES), value, rtol=1e-5)
    if name != "moco":  # whose queue would have to be turned as well
        given = [jnp.asarray(z @ turned, jnp.float32) for z in (FIRST, SECOND)]
        np.testing.assert_allclose(LOSSES[name](*given, ONES), value, rtol=1e-5)


def test_simclr_is_the_nt_xent_of_optax():
    both = jnp.concatenate([jnp.asarray(FIRST), jnp.asarray(SECOND)])
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        expected = optax.losses.ntxent(both, jnp.tile(jnp.arange(N), 2), TAU)
    np.testing.assert_allclose(
        LOSSES["simclr"](jnp.asarray(FIRST), jnp.asarray(SECOND), ONES), expected, rtol=1e-5
    )


def test_simclr_of_orthonormal_outputs():
    orthonormal = jnp.eye(N)
    value = pretraining.simclr_loss(orthonormal, orthonormal, ONES, TAU)
    np.testing.assert_allclose(value, np.log(1 + (2 * N - 2) * np.exp(-1 / TAU)), rtol=1e-5)


def test_dino_does_not_see_what_is_added_to_teacher_and_center():
    first, second = jnp.asarray(FIRST), jnp.asarray(SECOND)
    value = pretraining.dino_loss(first, second, CENTER, ONES)
    shifted = pretraining.dino_loss(first, second + 3, CENTER + 3, ONES)
    np.testing.assert_allclose(shifted, value, rtol=1e-4)


def test_barlow_twins_of_outputs_that_collapsed_and_of_affine_maps():
    alike = jnp.ones((N, D))
    np.testing.assert_allclose(pretraining.barlow_twins_loss(alike, alike, ONES), D, rtol=1e-6)
    # The variance is far above what is added to it.
    first, second = (100 * jnp.asarray(z) for z in (FIRST, SECOND))
    mapped = first * jnp.array([[0.5, 2.0, 1.0, 3.0]]) + jnp.array([[1.0, -2.0, 0.0, 5.0]])
    np.testing.assert_allclose(
        pretraining.barlow_twins_loss(mapped, second, ONES),
        pretraining.barlow_twins_loss(first, second, ONES),
        rtol=1e-4,
    )


def test_vicreg_of_white_outputs_and_of_translated_ones():
    white = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    np.testing.assert_allclose(pretraining.vicreg_loss(white, white, jnp.ones(4)), 0, atol=1e-6)
    first, second = jnp.asarray(FIRST), jnp.asarray(SECOND)
    np.testing.assert_allclose(
        pretraining.vicreg_loss(first + 3, second + 3, ONES),
        pretraining.vicreg_loss(first, second, ONES),
        rtol=1e-4,
    )
