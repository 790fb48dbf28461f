"""Sinusoids: every episode is one wave of the stated distribution, whatever the padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.data.sinusoid import sinusoid

KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def tasks():
    sample = sinusoid()["train"].episodes(1, 10, 15)
    many = jax.jit(jax.vmap(sample, (None, 0)))((), jax.random.split(KEY, 400))
    return jax.tree.map(np.asarray, many)


def wave(x, y):
    """Amplitude, phase and misfit of the least-squares wave y = A sin(x - phase)."""
    design = np.concatenate([np.sin(x), np.cos(x)], axis=-1).astype(np.float64)
    (a, b), *_ = np.linalg.lstsq(design, y[:, 0].astype(np.float64))
    return np.hypot(a, b), np.arctan2(-b, a), np.abs(design @ (a, b) - y[:, 0]).max()


def test_each_task_is_one_wave_of_the_distribution(tasks):
    support, query = tasks
    assert support.x.shape == support.y.shape == (400, 10, 1)
    assert query.x.shape == query.y.shape == (400, 15, 1)
    x = np.concatenate([support.x, query.x], axis=1)
    y = np.concatenate([support.y, query.y], axis=1)
    amplitude, phase, misfit = np.array([wave(*task) for task in zip(x, y, strict=True)]).T
    assert misfit.max() < 1e-4
    # Uniform: the sorted values lie along a line (Kolmogorov-Smirnov at 1 in 1000).
    for values, low, high in [(amplitude, 0.1, 5), (phase, 0, np.pi), (x[:, 0, 0], -5, 5)]:
        assert values.min() > low - 1e-3
        assert values.max() < high + 1e-3
        expected = low + (high - low) * (np.arange(400) + 0.5) / 400
        assert np.abs(np.sort(values) - expected).max() < 1.95 / 20 * (high - low)
    assert abs(np.corrcoef(amplitude, phase)[0, 1]) < 0.2


def test_support_and_query_are_drawn_independently(tasks):
    support, query = tasks
    pairs = np.corrcoef(np.concatenate([support.x[..., 0], query.x[..., 0]], axis=1).T)
    # 5 standard errors of a correlation over 400 tasks; a shared input would give 1.
    assert np.abs(pairs - np.eye(25)).max() < 0.25


def test_padding_changes_nothing_else():
    source = sinusoid()["valid"]
    plain = source.episodes(1, 3, 4)(source.data, KEY)

    @jax.jit
    def sample(shots, key):
        return source.episodes(1, shots, 4, max_shots=7)(source.data, key)

    padded = sample(3, KEY)
    jax.tree.map(np.testing.assert_array_equal, padded.query, plain.query)
    for whole, part in zip(padded.support, plain.support, strict=True):
        assert len(whole) == 7
        np.testing.assert_allclose(whole[:3], part, rtol=1e-6)
        np.testing.assert_array_equal(whole[3:], np.zeros_like(whole[3:]))
    np.testing.assert_array_equal(sample(7, KEY).support.mask, jnp.ones(7))


def test_key_decides_and_splits_are_one_distribution():
    episodes = [s.episodes(1, 5, 5)(s.data, KEY) for s in sinusoid().values()]
    assert sinusoid().keys() == {"train", "valid", "test"}
    for other in episodes[1:]:
        jax.tree.map(np.testing.assert_array_equal, episodes[0], other)
    different = sinusoid()["train"].episodes(1, 5, 5)((), jax.random.key(4))
    assert jnp.abs(different.query.x - episodes[0].query.x).min() > 0


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((5, 1, 1), {}, "ways is 5"),
        ((1, 1, 1), {"max_ways": 2}, "max_ways is 2"),
        ((1, 0, 1), {}, "shots is 0"),
        ((1, 1, 0), {}, "queries is 0"),
        ((1, 9, 1), {"max_shots": 3}, "max_shots is 3"),
    ],
)
def test_errors_name_what_is_wrong(args, kwargs, message):
    with pytest.raises(ValueError, match=message):
        sinusoid()["train"].episodes(*args, **kwargs)
