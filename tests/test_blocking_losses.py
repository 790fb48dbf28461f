"""Losses that want predictions to be of no use, against their closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.blocking_losses import (
    calibrated_deficit,
    entropy_deficit,
    inverse_cross_entropy,
    uniform_divergence,
)
from jaxmeta.losses import cross_entropy

LOGITS = 2 * jax.random.normal(jax.random.key(0), (6, 4))
LABELS = jnp.array([0, 2, 1, 1, 3, 0])
ONES = jnp.ones(6)
EVERY = (entropy_deficit, uniform_divergence, inverse_cross_entropy, calibrated_deficit)
BOUNDED = (entropy_deficit, uniform_divergence, calibrated_deficit)


def gradient(loss, logits, y=LABELS):
    return np.asarray(jax.grad(lambda z: loss(z, y, jnp.ones(len(z))))(logits)) * len(logits)


def test_gradients_are_the_closed_forms():
    p = np.asarray(jax.nn.softmax(LOGITS))
    np.testing.assert_allclose(gradient(uniform_divergence, LOGITS), p - 1 / 4, atol=1e-6)
    of_label = np.take_along_axis(p, np.asarray(LABELS)[:, None], axis=1)
    expected = -p * of_label / (1 - of_label)
    np.put_along_axis(expected, np.asarray(LABELS)[:, None], of_label, axis=1)
    np.testing.assert_allclose(gradient(inverse_cross_entropy, LOGITS), expected, atol=1e-6)
    log_p = np.log(p)
    entropy = -(p * log_p).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(gradient(entropy_deficit, LOGITS), p * (log_p + entropy), atol=1e-6)


@pytest.mark.parametrize("loss", BOUNDED)
def test_the_uniform_distribution_is_the_least_and_stationary(loss):
    # Of equal logits, a calibration can make how frequent the classes are; of zeros, nothing.
    uniform = jnp.full((6, 4), 0.0 if loss is calibrated_deficit else 1.5)
    np.testing.assert_allclose(loss(uniform, LABELS, ONES), 0, atol=1e-6)
    np.testing.assert_allclose(gradient(loss, uniform), 0, atol=1e-6)
    assert loss(LOGITS, LABELS, ONES) > 0.01


@pytest.mark.parametrize("loss", [entropy_deficit, calibrated_deficit])
def test_no_more_than_all_classes_can_be_known(loss):
    certain = 50 * jax.nn.one_hot(LABELS, 4)
    np.testing.assert_allclose(loss(certain, LABELS, ONES), np.log(4), atol=1e-3)
    assert loss(LOGITS, LABELS, ONES) < np.log(4)


@pytest.mark.parametrize("loss", BOUNDED)
def test_exchanging_labels_changes_nothing(loss):
    order = jnp.array([2, 0, 3, 1])
    np.testing.assert_allclose(
        loss(LOGITS[:, order], LABELS, ONES), loss(LOGITS, LABELS, ONES), rtol=1e-4
    )


def test_the_papers_formula_is_not_that_of_its_code():
    of_code = -jnp.take_along_axis(jax.nn.log_softmax(-LOGITS), LABELS[:, None], axis=1).mean()
    assert abs(inverse_cross_entropy(LOGITS, LABELS, ONES) - of_code) > 0.1


@pytest.mark.parametrize("loss", EVERY)
def test_nothing_is_learned_from_nan(loss):
    assert np.isnan(loss(LOGITS.at[2].set(jnp.nan), LABELS, ONES))


@pytest.mark.parametrize("loss", EVERY)
def test_padding_and_absent_classes_change_nothing(loss):
    few, slope = jax.value_and_grad(loss)(LOGITS[:4, :3], LABELS[:4], ONES[:4])
    mask, y = jnp.array([1.0, 1, 1, 1, 0, 0]), LABELS.at[4].set(0)

    def padded(z):
        return loss(z.at[:, 3].set(-jnp.inf).at[5].set(jnp.nan), y.at[5].set(3), mask)

    value, gradient = jax.jit(jax.value_and_grad(padded))(LOGITS)
    np.testing.assert_allclose(value, few, rtol=1e-4)
    np.testing.assert_allclose(gradient[:4, :3], slope, rtol=1e-3, atol=1e-5)
    assert not np.any(gradient[:, 3])
    assert not np.any(gradient[4:])


@pytest.mark.parametrize(("ways", "scale"), [(5, 10.0), (20, 30.0)])
def test_calibration_of_many_ways_is_no_worse_than_none(ways, scale):
    y = jnp.arange(200) % ways
    z = scale * jax.random.normal(jax.random.key(1), (200, ways)) + 2 * jax.nn.one_hot(y, ways)
    found = jax.jit(calibrated_deficit)(z, y, jnp.ones(200))
    for weights in (np.eye(ways), np.eye(ways) / scale, np.zeros((ways, ways))):
        other = cross_entropy(z @ weights.astype(np.float32), y, jnp.ones(200))
        assert np.log(ways) - found <= other + 1e-3


def test_calibration_is_no_worse_than_none_and_its_gradient_is_that_of_the_minimum():
    with jax.enable_x64(True):
        z = jnp.asarray(np.random.default_rng(0).normal(size=(30, 3)))
        y = jnp.asarray(np.random.default_rng(1).integers(3, size=30), jnp.int32)
        mask = jnp.ones(30, jnp.float64)

        @jax.jit
        def value(z):
            return calibrated_deficit(z, y, mask)

        found, slope = jax.value_and_grad(value)(z)
        assert np.log(3) - found <= cross_entropy(z, y, mask) + 1e-9
        direction = jnp.asarray(np.random.default_rng(2).normal(size=(30, 3)))
        step = 1e-4
        finite = (value(z + step * direction) - value(z - step * direction)) / (2 * step)
        np.testing.assert_allclose(jnp.sum(slope * direction), finite, rtol=1e-3)
