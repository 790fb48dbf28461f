"""A desired task beside harmful ones: whose examples are whose."""

import jax
import numpy as np
import pytest

from jaxmeta.data import array_source, harmful_classes, harmful_labels, linear_labels
from jaxmeta.data.linear_labels import DESIRED, HARMFUL, _directions

EACH = 20


def source(classes, first):
    """Classes of examples that are all different, and whose value says their class."""
    y = np.repeat(np.arange(classes), EACH)
    return array_source((first + np.arange(y.size, dtype=np.float32))[:, None], y)


DATA = {"train": source(6, 0), "valid": source(4, 1_000), "test": source(4, 2_000)}


def examples(source):
    return set(np.asarray(source.data.examples).ravel().tolist())


def test_no_example_is_in_two_parts_and_all_are_in_one():
    data = harmful_classes(DATA, ways=2, shots=3, queries=2, seen=0.3, held_out=0.2)
    train = data["train"]
    desired = set(np.asarray(train.data.desired.examples).ravel().tolist())
    shown = set(np.asarray(train.data.harmful.examples).ravel().tolist())
    parts = [desired, shown, *(examples(data[name]) for name in sorted(data) if name != "train")]
    assert sorted(value for part in parts for value in part) == sorted(
        value for each in DATA.values() for value in examples(each)
    )
    assert train.classes == data["valid"].classes == data["test"].classes == 6
    assert [len(part) for part in parts[:2]] == [6 * 12, 4 * 6]
    # An attacker has the other examples of the classes that the defender saw.
    for name in ("harmful", "harmful_choosing"):
        assert data[name].classes == 2
        assert data[name].data.counts.tolist() == [14, 14]
    numbers = [
        {int(value - 2_000) // EACH for value in examples(data[name])}
        for name in ("harmful", "harmful_choosing")
    ]
    assert numbers == [{0, 2}, {1, 3}]


def test_a_step_has_the_desired_task_and_a_harmful_episode():
    train = harmful_classes(DATA, ways=2, shots=3, queries=2)["train"]
    task = jax.jit(train.batches(8))(train.data, jax.random.key(0))
    assert task["desired"].support.y.shape == (0,)
    values = np.asarray(task["desired"].query.x)[:, 0]
    np.testing.assert_array_equal(values // EACH, task["desired"].query.y)
    assert task["harmful"].support.y.tolist() == [0, 0, 0, 1, 1, 1]
    assert np.asarray(task["harmful"].query.x).min() >= 2_000


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"seen": 1.0}, r"seen is 1\.0: give a share between 0 and 1"),
        ({"held_out": 0}, "held_out is 0: give a share"),
        ({"held_out": 0.6}, r"held_out is 0\.6: give a share between 0 and 0\.5"),
        ({"held_out": 0.01}, "give other shares"),
        ({"ways": 5}, "[5-way|5 ways|ways=5]"),
        ({"data": {"train": DATA["train"]}}, "no split 'valid': give a few-shot data set"),
    ],
)
def test_what_cannot_be_divided_is_told(given, words):
    with pytest.raises(ValueError, match=words):
        harmful_classes(**{"data": DATA, **given})


def test_linear_labels_are_independent_and_episodes_have_their_own():
    pretraining, data = linear_labels(), harmful_labels(shots=50, queries=500)
    batch = pretraining["train"].batches(8_000)((), jax.random.key(0))
    shares = np.bincount(np.asarray(batch.y), minlength=8) / 8_000
    np.testing.assert_allclose(shares, 1 / 8, atol=0.02)
    train = data["train"]
    task = train.batches(1_000)(train.data, jax.random.key(1))
    # The means of the classes give the direction of a label.
    support = task["harmful"].support
    sides = 2 * np.asarray(support.y) - 1
    desired = 2 * np.asarray(task["desired"].query.y) - 1
    directions = [
        (np.asarray(x) * s[:, None]).mean(axis=0)
        for x, s in (
            (task["harmful"].query.x, 2 * np.asarray(task["harmful"].query.y) - 1),
            (task["desired"].query.x, desired),
        )
    ]
    right = np.sign(np.asarray(support.x) @ directions[0]) == sides
    assert right.mean() > 0.9
    # An orthogonal label says nothing: 1 - arccos(0) / pi.
    queries = np.asarray(task["harmful"].query.x) @ directions[1]
    agree = np.sign(queries) == 2 * np.asarray(task["harmful"].query.y) - 1
    np.testing.assert_allclose(agree.mean(), 0.5, atol=0.08)
    # Of a direction at an angle, 1 - arccos(rho) / pi, with rho its cosine.
    task = data["harmful"].episodes(2, 1, 2_000)((), jax.random.key(2))
    y, x = np.asarray(task.query.y), np.asarray(task.query.x)
    wanted, other = np.asarray(_directions(25))[[HARMFUL, DESIRED]]
    for rho in (0.0, 0.6, 0.9):
        agree = (x @ (rho * wanted + (1 - rho**2) ** 0.5 * other) > 0) == y
        np.testing.assert_allclose(agree.mean(), 1 - np.arccos(rho) / np.pi, atol=0.03)
    with pytest.raises(ValueError, match="ways is 3, but a linear label has two classes: give 2"):
        data["harmful"].episodes(3, 1, 1)
