"""Losses against numpy, and what their masks do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.losses import accuracy, cross_entropy, squared_error

LOGITS = jax.random.normal(jax.random.key(0), (5, 3))
LABELS = jnp.array([0, 2, 1, 1, 0])
ONES = jnp.ones(5)


def test_cross_entropy_is_the_negative_log_probability():
    logits = np.asarray(LOGITS, np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    by_hand = -np.log(probabilities[np.arange(5), LABELS]).mean()
    np.testing.assert_allclose(cross_entropy(LOGITS, LABELS, ONES), by_hand, rtol=1e-6)


def test_squared_error_and_accuracy():
    targets = jnp.zeros((5, 3))
    np.testing.assert_allclose(
        squared_error(LOGITS, targets, ONES), np.mean(np.asarray(LOGITS) ** 2), rtol=1e-6
    )
    right = np.argmax(LOGITS, axis=1) == np.asarray(LABELS)
    np.testing.assert_allclose(accuracy(LOGITS, LABELS, ONES), right.mean())


@pytest.mark.parametrize(
    ("loss", "y"),
    [(cross_entropy, LABELS), (accuracy, LABELS), (squared_error, jnp.ones((5, 3)))],
)
def test_masked_examples_do_not_count_and_nothing_is_zero(loss, y):
    mask = jnp.array([1.0, 0.0, 1.0, 0.0, 1.0])
    kept = np.array([0, 2, 4])
    loss = jax.jit(loss)
    few = loss(np.asarray(LOGITS)[kept], np.asarray(y)[kept], np.ones(3, np.float32))
    np.testing.assert_allclose(loss(LOGITS, y, mask), few, rtol=1e-6)
    assert loss(LOGITS, y, jnp.zeros(5)) == 0


def test_padding_with_an_absent_label_gives_finite_values_and_gradients():
    present = jnp.array([True, False, True])
    y, mask = jnp.array([0, 2, 1, 1, 0]), jnp.array([1.0, 1.0, 0.0, 0.0, 1.0])

    def loss(logits):
        return cross_entropy(jnp.where(present[None], logits, -jnp.inf), y, mask)

    @jax.jit
    def orders(logits):
        return loss(logits), jax.grad(loss)(logits), jax.hessian(loss)(logits)

    for order in orders(LOGITS):
        assert np.all(np.isfinite(order))


@pytest.mark.parametrize(
    ("loss", "outputs", "y"),
    [
        (squared_error, jnp.ones((5, 1)), jnp.ones(5)),
        (squared_error, jnp.ones(5), jnp.ones(5)),
        (cross_entropy, LOGITS, LABELS[:, None]),
        (accuracy, LOGITS, LABELS[:4]),
        (cross_entropy, LOGITS[None], LABELS),
    ],
)
def test_shapes_that_would_be_broadcast_are_refused(loss, outputs, y):
    with pytest.raises(ValueError, match=r"have shape .*: give"):
        loss(outputs, y, ONES)
