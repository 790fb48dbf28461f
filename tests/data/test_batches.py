"""Arrays that a user brings along become batches and episodes, or are refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.data import make_batch, make_episode


def test_make_batch_scales_and_converts():
    x = {"image": np.array([[0, 51], [255, 102]], np.uint8), "tokens": np.array([[7], [8]])}
    batch = make_batch(x, [1, 0], ways=2)
    np.testing.assert_allclose(batch.x["image"], [[0, 0.2], [1, 0.4]], rtol=1e-6)
    assert batch.x["image"].dtype == batch.mask.dtype == jnp.float32
    assert batch.x["tokens"].dtype == batch.y.dtype == jnp.int32
    assert batch.mask.tolist() == [1, 1]
    assert make_batch(np.ones((2, 1)), np.ones((2, 3))).y.shape == (2, 3)


@pytest.mark.parametrize(
    ("x", "y", "ways", "message"),
    [
        (np.zeros((3, 2)), [0, 1], 2, r"\[3\] inputs and labels of shape \[2\]; give both"),
        (np.zeros((2, 2)), [0, 5], 5, r"Label 5 is outside 0..4 \(5 ways\)"),
        (np.zeros((2, 2)), [0, -1], 5, r"Label -1 is outside 0..4 \(5 ways\)"),
        (np.zeros((2, 2)), [0, -1], None, "Label -1 is negative"),
        (np.zeros((2, 2)), [0.0, 1.0], 2, "labels of 2 ways have type float64; give integers"),
        (np.array([[0.0, np.nan]]), [0], 2, r"value at \[0, 1\] is nan"),
        (np.zeros((1, 2)), [[np.inf]], None, r"value at \[0, 0\] is inf"),
        (np.zeros((2, 2)), [[0], [1]], 2, r"int64 and shape \[2, 1\]; give integer labels \[n\]"),
        (np.zeros((2, 2)), [[0], [1]], None, r"int64 and shape \[2, 1\]; give integer labels"),
        (np.zeros((2, 2)), [0.5, 1.5], None, r"float64 and shape \[2\]; .* targets \[n, d\]"),
        ({}, [0], 2, r"\[\] inputs and labels of shape \[1\]"),
        ([[1.0], [1.0, 2.0]], [0, 1], 2, "The 2 examples of a list .* one structure and shape"),
        (np.array(["a"]), [0], 2, "have type <U1; give arrays of numbers"),
        (np.array([2**31]), [0], 2, "2147483648 does not fit into 32 bits; give smaller"),
        (np.array([1e39]), [0], 2, r"value at \[0\] is inf"),
    ],
)
def test_make_batch_refuses(x, y, ways, message):
    with pytest.raises(ValueError, match=message):
        make_batch(x, y, ways)


def test_a_support_set_may_have_examples_without_a_label():
    x = np.zeros((3, 2))
    assert make_batch(x, [0, -1, 1], ways=2, unlabeled=True).y.tolist() == [0, -1, 1]
    assert make_episode(x, [0, -1, 1], x, [0, 0, 1], ways=2).support.y.tolist() == [0, -1, 1]
    with pytest.raises(ValueError, match=r"Label -2 is outside 0..1 .* no known class -1"):
        make_batch(x, [0, -2, 1], ways=2, unlabeled=True)
    with pytest.raises(ValueError, match="Label -2 is negative"):
        make_episode(x, [0, -2, 1], x, [0, 0, 1])
    for ways in (2, None):
        with pytest.raises(ValueError, match="Label -1 is"):
            make_episode(x, [0, 1, 1], x, [0, -1, 1], ways)


def test_make_episode_wants_examples_of_one_shape():
    episode = make_episode(np.zeros((2, 4)), [0, 1], np.ones((3, 4)), [1, 1, 0], ways=2)
    assert episode.query.y.tolist() == [1, 1, 0]
    with pytest.raises(ValueError, match="Support examples have shapes"):
        make_episode(np.zeros((2, 4)), [0, 1], np.ones((3, 5)), [1, 1, 0])
    with pytest.raises(ValueError, match="Label 2 is outside"):
        make_episode(np.zeros((2, 4)), [0, 1], np.ones((3, 4)), [1, 2, 0], ways=2)
