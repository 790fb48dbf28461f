"""Sources of any examples: what their classes, batches and instances are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.data import array_source, class_source, decode_rotated_image, sinusoid
from tests.data.marked import COUNTS, close, draws, marked_source, marks, same

IMAGES = np.zeros((2, 3, 3, 1), np.uint8)
SHUFFLED = np.random.default_rng(0).permutation(12)


def sentences():
    """Tokens ``[class, number, ...]``, as many as their lengths say, of 3 classes with 4 each."""
    c, i = np.divmod(np.arange(12), 4)
    lengths = 2 + (c + i) % 3
    mask = np.arange(4) < lengths[:, None]
    tokens = np.where(mask, np.stack([c, i, c + 7, i + 7], axis=1), 0)
    return {"tokens": tokens, "mask": mask, "lengths": lengths}, c


def test_the_parts_of_an_example_stay_together():
    examples, _ = sentences()
    source = class_source(examples, [4, 4, 4], ["ant", "bee", "cat"])
    support, query = draws(source, 20, source.episodes(2, 1, 2, max_shots=2))
    assert support.x["tokens"].shape == (20, 4, 4)
    assert support.x["tokens"].dtype == support.x["lengths"].dtype == np.int32
    assert support.x["mask"].dtype == np.float32
    for x, real in ((support.x, support.mask), (query.x, query.mask)):
        c, i = x["tokens"][..., 0], x["tokens"][..., 1]
        row = jax.tree.map(lambda leaf, at=4 * c + i: leaf[at], examples)
        assert all((leaf[real == 0] == 0).all() for leaf in jax.tree.leaves(x))
        assert same(*(jax.tree.map(lambda leaf, at=real == 1: leaf[at], side) for side in (row, x)))


def test_arrays_in_any_order_are_the_classes_that_their_labels_name():
    examples, c = sentences()
    features = np.random.default_rng(1).normal(size=(12, 5))  # as an encoder computes them once
    names = np.array(["cat", "ant", "bee"])[c]
    ordered = array_source({**examples, "features": features}, names)
    assert ordered.classes == 3
    assert same(ordered.data.examples["features"], np.float32(np.roll(features, -4, axis=0)))
    # The order of the arrays is that of the examples of a class, and means nothing else.
    mixed = array_source(features[SHUFFLED], c[SHUFFLED])
    by_hand = SHUFFLED[np.argsort(c[SHUFFLED], kind="stable")]
    same_as = class_source(features[by_hand], [4, 4, 4], ["0", "1", "2"])
    assert same(mixed.data, same_as.data)


def test_variants_are_classes_that_decode_makes():
    examples = 10 * np.arange(6)  # 3 classes of 2

    def decode(example, variant):
        return (example + variant).astype(jnp.float32)

    source = class_source(examples, [2, 2, 2], ["a", "b", "c"], decode=decode, variants=5)
    assert source.classes == 15
    support, query = draws(source, 3, source.episodes(15, 1, 1))
    for x, other in zip(support.x.astype(int), query.x.astype(int), strict=True):
        classes = 5 * (x // 20) + x % 10
        assert set(classes) == set(range(15))
        assert np.array_equal(classes, 5 * (other // 20) + other % 10)
        assert (x != other).all()
    batch = draws(source, 1, source.batches(200))
    x = batch.x[0].astype(int)
    assert np.array_equal(batch.y[0], 5 * (x // 20) + x % 10)
    assert set(batch.y[0]) == set(range(15))
    with pytest.raises(ValueError, match=r"16 ways .* has 15"):
        source.episodes(16, 1, 1)


def test_batches_are_drawn_evenly_over_examples_and_labeled_by_class():
    source = marked_source(rotations=True)
    batch = jax.jit(source.batches(4000))(source.data, jax.random.key(0))
    assert batch.y.dtype == jnp.int32
    assert (batch.mask == 1).all()
    classes, _ = marks(batch.x)
    straight = batch.y % 4 == 0
    assert np.array_equal(classes[straight], batch.y[straight] // 4)
    turned = batch.y % 4 == 1
    assert np.array_equal(marks(np.rot90(batch.x[turned], -1, (1, 2)))[0], batch.y[turned] // 4)
    expected = np.repeat(COUNTS, 4) / (4 * COUNTS.sum())
    assert close(np.bincount(batch.y, minlength=source.classes), expected, 4000)


def test_batches_skip_classes_without_examples():
    source = class_source(np.arange(5), [0, 2, 0, 3, 0], list("abcde"))
    batch = draws(source, 1, source.batches(100))
    assert np.array_equal(batch.y, np.where(batch.x < 2, 1, 3))


def test_each_instance_is_a_class_of_its_own():
    source = marked_source(rotations=True)
    total = 4 * COUNTS.sum()
    support, query = draws(source, 2000, source.instances(3, 1, 2))
    assert (support.y == np.arange(3)).all()
    assert (query.y == np.repeat(np.arange(3), 2)).all()
    assert (support.mask == 1).all()
    assert (query.mask == 1).all()
    # Each way shows a single example in a single turn, and different ways show different ones.
    assert np.array_equal(np.repeat(support.x, 2, axis=1), query.x)
    shown = [{image.tobytes() for image in task} for task in support.x]
    assert all(len(task) == 3 for task in shown)
    often = np.unique([image.tobytes() for task in support.x for image in task], return_counts=True)
    assert len(often[0]) == total
    assert close(often[1], 3 / total, 2000)


def test_instances_reach_every_example_and_no_further():
    source = class_source(np.arange(4), [1, 3], ["a", "b"])
    support, _ = draws(source, 200, source.instances(4, 2, 1))
    assert (np.sort(support.x[:, ::2]) == np.arange(4)).all()
    orders = np.unique(support.x, axis=0)
    assert len(orders) == 24
    for options, message in [
        ((5, 1, 1), "5 instances .* has 4; ask for fewer"),
        ((0, 1, 1), "ways is 0: give"),
        ((2, 1.5, 1), "shots is 1.5: give"),
        ((2, 1, 0), "queries is 0: give"),
    ]:
        with pytest.raises(ValueError, match=message):
            source.instances(*options)
    with pytest.raises(ValueError, match=r"size is 0: give .* 1 or more"):
        source.batches(0)


def test_what_has_no_classes_says_so():
    source = sinusoid()["train"]
    assert (source.classes, source.batches, source.instances) == (None, None, None)


@pytest.mark.parametrize(
    ("examples", "counts", "names", "options", "message"),
    [
        (IMAGES, [3], ["a"], {}, r"\[2\] examples, counts that sum to 3"),
        (IMAGES, [2], ["a", "b"], {}, "1 classes, and 2 names; give"),
        (IMAGES, [3, -1], ["a", "b"], {}, r"counts are \[3, -1\]; give one non-negative integer"),
        (IMAGES, [2.0], ["a"], {}, r"counts are \[2.0\]; give one non-negative integer"),
        (IMAGES[:0], [0], ["a"], {}, "0 examples; give"),
        ({"x": IMAGES, "y": IMAGES[:1]}, [2], ["a"], {}, r"\[2, 1\] examples"),
        ({"x": IMAGES, "y": np.array(0)}, [2], ["a"], {}, r"\[2, 0\] examples"),
        (np.array([1.0, np.nan]), [2], ["a"], {}, r"value at \[1\] is nan; remove"),
        (np.array(["one", "two"]), [2], ["a"], {}, "type <U3; give arrays of numbers"),
        (IMAGES, [2], ["a"], {"variants": 2}, "variants is 2, .* give a decode"),
        (IMAGES, [2], ["a"], {"variants": 0}, "variants is 0: give .* 1 or more"),
        (
            IMAGES[:, :2],
            [2],
            ["a"],
            {"decode": decode_rotated_image},
            r"\(2, 3, 1\) .* give square",
        ),
    ],
)
def test_examples_that_do_not_fit_are_refused(examples, counts, names, options, message):
    with pytest.raises(ValueError, match=message):
        class_source(examples, counts, names, **options)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0], r"\[2\] examples and labels of type int64 and shape \[1\]; give each"),
        ([[0], [1]], r"shape \[2, 1\]"),
        ([0.0, 1.0], "type float64"),
        ([0, -1], "Label -1 is negative; leave out"),
    ],
)
def test_labels_that_are_none_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        array_source(IMAGES, y)
