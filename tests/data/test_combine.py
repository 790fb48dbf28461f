"""Samplers made of samplers draw what those draw: side by side, one of several, seen twice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.data import array_source, mixture, paired, views
from tests.data.marked import close, draws

LOW = array_source(np.arange(6.0)[:, None], [0, 0, 1, 1, 2, 2])
HIGH = array_source(100 + np.arange(4.0)[:, None], [0, 0, 1, 1])
KEY = jax.random.key(5)


def noisy(key, x):
    return x + jax.random.uniform(key, x.shape, x.dtype, -0.4, 0.4)


def test_a_pair_is_one_task_of_each_source():
    sample = paired({"low": LOW.batches(3), "high": (HIGH.episodes(2, 1, 1), LOW.batches(3))})
    data = {"low": LOW.data, "high": (HIGH.data, LOW.data)}
    keys = jax.random.split(jax.random.key(0), 300)
    tasks = jax.tree.map(np.asarray, jax.jit(jax.vmap(sample, (None, 0)))(data, keys))
    assert tasks["low"].x.shape == (300, 3, 1)
    assert tasks["high"][0].support.x.shape == (300, 2, 1)
    assert tasks["low"].x.max() < 6
    assert tasks["high"][0].query.x.min() >= 100
    # Independent, though two of them draw from the same source.
    both = np.stack([tasks["low"].x[:, 0, 0], tasks["high"][1].x[:, 0, 0]])
    assert abs(np.corrcoef(both)[0, 1]) < 0.25


@pytest.mark.parametrize(
    ("weights", "shares"), [(None, (1 / 3, 1 / 3, 1 / 3)), ((3, 0, 1), (3 / 4, 0, 1 / 4))]
)
def test_a_mixture_draws_each_source_as_often_as_it_weighs(weights, shares):
    sample = mixture([LOW.batches(2), LOW.batches(2), HIGH.batches(2)], weights)
    keys = jax.random.split(jax.random.key(0), 1000)
    drawn = jax.jit(jax.vmap(sample, (None, 0)))((LOW.data, LOW.data, HIGH.data), keys)
    assert drawn.source.dtype == jnp.int32
    # A task is told by the place of its source.
    source = np.asarray(drawn.source)
    assert ((drawn.task.x[..., 0] >= 100) == (source == 2)[:, None]).all()
    assert close(np.bincount(source, minlength=3), np.array(shares), 1000)


def test_mixed_episodes_are_padded_to_one_shape():
    """Two sources with different numbers of ways."""
    sample = mixture([LOW.episodes(3, 1, 1), HIGH.episodes(2, 1, 1, max_ways=3)])
    keys = jax.random.split(KEY, 20)
    drawn = jax.jit(jax.vmap(sample, (None, 0)))((LOW.data, HIGH.data), keys)
    assert set(np.asarray(drawn.source)) == {0, 1}
    assert np.array_equal(drawn.task.support.mask.sum(axis=1), 3 - drawn.source)


def test_views_are_of_the_same_examples_and_each_has_its_own_noise():
    source = LOW
    sample = views(source.batches(8), noisy, count=3)
    tasks = draws(source, 50, sample)
    each = np.stack(tasks.x)
    assert each.shape == (3, 50, 8, 1)
    shown = np.rint(each)
    assert (shown == shown[:1]).all()
    assert np.array_equal(shown[0, ..., 0] // 2, tasks.y)
    noise = (each - shown).reshape(3, -1)
    assert np.abs(np.corrcoef(noise) - np.eye(3)).max() < 0.25
    # Within a view, too, no two examples share a key.
    assert len(np.unique(noise)) > 0.99 * noise.size


def test_combined_samplers_combine():
    seen = views(LOW.batches(2), noisy)
    sample = paired((mixture([seen, seen]), views(HIGH.batches(3), noisy)))
    data = ((LOW.data, LOW.data), HIGH.data)
    mixed, other = jax.jit(sample)(data, KEY)
    for batch, least, most in ((mixed.task, 0, 5), (other, 100, 103)):
        one, two = (np.rint(view) for view in batch.x)
        assert np.array_equal(one, two)
        assert least <= one.min() <= one.max() <= most


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: paired({}), "paired got {}; give at least one"),
        (lambda: mixture([]), "mixture got 0 samplers; give at least one"),
        (lambda: mixture([LOW.batches(1)], [1, 2]), r"1 samplers are \[1, 2\]; give one"),
        (lambda: mixture([LOW.batches(1)] * 2, [1, -1]), r"\[1, -1\]; give one non-negative"),
        (lambda: mixture([LOW.batches(1)] * 2, [0, 0]), r"\[0, 0\]; .* not all of them 0"),
        (lambda: mixture([LOW.batches(1)], [np.nan]), r"\[nan\]; give"),
        (lambda: views(LOW.batches(1), noisy, count=0), "count is 0: give .* 1 or more"),
        (lambda: views(LOW.batches(1), noisy, count=1.5), "count is 1.5: give"),
    ],
)
def test_samplers_that_do_not_combine_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("sample", "data", "message"),
    [
        (paired({"a": LOW.batches(1)}), {"b": LOW.data}, "give the data of each source"),
        (paired((LOW.batches(1), LOW.batches(1))), (LOW.data,), "give the data of each source"),
        (mixture([LOW.batches(1)]), LOW.data, "give the data of each source"),
        (
            mixture([LOW.batches(1), LOW.batches(2)]),
            (LOW.data, LOW.data),
            r"sampler 1 draws .*\[2, 1\].* sampler 0 draws .*\[1, 1\].*; pad them",
        ),
        (views(LOW.episodes(2, 1, 1), noisy), LOW.data, "type Episode; give a sampler of batches"),
    ],
)
def test_tasks_that_do_not_combine_are_refused_when_drawn(sample, data, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(sample, data, KEY)
