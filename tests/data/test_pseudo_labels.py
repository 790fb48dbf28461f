"""Sources whose training classes are others than those of the data."""

import jax
import numpy as np
import pytest

from jaxmeta.data import array_source, decode_rotated_image, pseudo_labeled, sinusoid

KEY = jax.random.key(0)
IMAGES = np.arange(8, dtype=np.uint8)[:, None, None, None] * np.array([[10], [20]], np.uint8)[None]
IMAGES = np.concatenate([IMAGES.reshape(8, 1, 2, 1), IMAGES.reshape(8, 1, 2, 1) + 1], axis=1)
SOURCE = array_source(IMAGES, [0, 0, 0, 0, 1, 1, 1, 1], decode=decode_rotated_image, variants=4)


def test_the_classes_are_those_of_the_labels():
    labels = np.array([7, 2, 2, 2, 7, 7, -1, 2])
    source = SOURCE.relabeled(labels)
    assert source.classes == 4 * 2  # of two clusters, four turns each
    rows = source.data.examples[:, 0, 0, 0] // 10
    assert rows.tolist() == [1, 2, 3, 7, 0, 4, 5]  # the first cluster is 2, and image 6 left out
    assert source.data.counts.tolist() == [4, 3]


def test_examples_are_decoded_as_before():
    same = SOURCE.relabeled(np.array([0] * 4 + [1] * 4))
    for draw in (lambda s: s.episodes(3, 1, 2), lambda s: s.batches(5)):
        one, other = (draw(source)(source.data, KEY) for source in (SOURCE, same))
        jax.tree.map(np.testing.assert_array_equal, one, other)


def test_only_training_is_relabeled(tmp_path):
    path = tmp_path / "labels.npy"
    np.save(path, np.array([0, 1, 0, 1, 0, 1, 0, 1]))
    sources = pseudo_labeled({"train": SOURCE, "valid": SOURCE, "test": SOURCE}, path)
    assert sources["train"].data.counts.tolist() == [4, 4]
    assert sources["valid"] is SOURCE
    assert sources["test"] is SOURCE


def test_labels_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"float64 and shape \[8\] were given for 8 examples"):
        SOURCE.relabeled(np.zeros(8))
    with pytest.raises(ValueError, match=r"shape \[3\] were given for 8 examples; give one"):
        SOURCE.relabeled(np.zeros(3, int))
    with pytest.raises(ValueError, match=r"none\.npy' cannot be read .*give an .npy file"):
        pseudo_labeled({"train": SOURCE}, tmp_path / "none.npy")
    np.save(tmp_path / "labels.npy", np.zeros(8, int))
    with pytest.raises(ValueError, match="no fixed examples to give other labels"):
        pseudo_labeled(sinusoid(), tmp_path / "labels.npy")
