"""Samplers made of samplers draw what those draw: side by side, or one of several."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.data import array_source, mixture, paired
from tests.data.marked import close

LOW = array_source(np.arange(6.0)[:, None], [0, 0, 1, 1, 2, 2])
HIGH = array_source(100 + np.arange(4.0)[:, None], [0, 0, 1, 1])
KEY = jax.random.key(5)


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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: paired({}), "paired got {}; give at least one"),
        (lambda: mixture([]), "mixture got 0 samplers; give at least one"),
        (lambda: mixture([LOW.batches(1)], [1, 2]), r"1 samplers are \[1, 2\]; give one"),
        (lambda: mixture([LOW.batches(1)] * 2, [1, -1]), r"\[1, -1\]; give one non-negative"),
        (lambda: mixture([LOW.batches(1)] * 2, [0, 0]), r"\[0, 0\]; .* not all of them 0"),
        (lambda: mixture([LOW.batches(1)], [np.nan]), r"\[nan\]; give"),
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
    ],
)
def test_tasks_that_do_not_combine_are_refused_when_drawn(sample, data, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(sample, data, KEY)
