"""Normal classes: their moments, padding, and the rule that is best."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.data import gaussians

KEY = jax.random.key(3)


def test_means_and_spreads_are_those_asked_for():
    sample = gaussians(size=3, spread=2.0)["test"].episodes(ways=4, shots=50, queries=20)
    tasks = jax.jit(jax.vmap(sample, (None, 0)))((), jax.random.split(KEY, 300))
    x = np.asarray(tasks.support.x).reshape(300, 4, 50, 3)
    means = x.mean(axis=2)
    assert abs(means.mean()) < 0.1
    np.testing.assert_allclose(means.var(), 1 + 4 / 50, rtol=0.1)
    np.testing.assert_allclose((x - means[:, :, None]).var() * 50 / 49, 4, rtol=0.02)
    queries = np.asarray(tasks.query.x).reshape(300, 4, 20, 3)
    np.testing.assert_allclose((queries.mean(axis=2) - means).var(), 4 / 50 + 4 / 20, rtol=0.1)
    assert tasks.query.y[0].tolist() == np.repeat(np.arange(4), 20).tolist()


def test_padding_changes_nothing_else():
    source = gaussians(size=3)["valid"]
    plain = source.episodes(2, 3, 4)(source.data, KEY)

    @jax.jit
    def sample(ways, shots, key):
        return source.episodes(ways, shots, 4, max_ways=3, max_shots=5)(source.data, key)

    padded = sample(2, 3, KEY)
    for one, other in zip(padded, plain, strict=True):
        kept = np.asarray(one.mask) > 0
        np.testing.assert_allclose(one.x[kept], other.x, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(one.y[kept], other.y)
        assert not np.asarray(one.x)[~kept].any()


@pytest.mark.parametrize("spread", [1.0, 2.0])
def test_shrunk_means_are_the_best(spread):
    sample = gaussians(spread=spread)["test"].episodes(5, 1, 15)
    tasks = jax.jit(jax.vmap(sample, (None, 0)))((), jax.random.split(KEY, 2_000))

    def accuracy(factor):
        apart = tasks.query.x[:, :, None] - factor * tasks.support.x[:, None]
        return jnp.mean(jnp.argmin(jnp.sum(apart**2, axis=-1), axis=-1) == tasks.query.y)

    plain, best, more = (
        float(accuracy(factor)) for factor in (1.0, 1 / (1 + spread**2), 0.3 / (1 + spread**2))
    )
    assert best > plain + 0.02
    assert best > more


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: gaussians(size=0), "size"),
        (lambda: gaussians(spread=0.0), "spread"),
        (lambda: gaussians()["train"].episodes(0, 1, 1), "ways"),
        (lambda: gaussians()["train"].episodes(3, 1, 1, max_ways=2), "max_ways"),
    ],
)
def test_errors(make, says):
    with pytest.raises(ValueError, match=says):
        make()
