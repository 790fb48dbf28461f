"""Diagnostics of features against closed forms, numpy, and what must not change them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.diagnostics import alpha_req, instance_accuracy, positive_cosine, rankme, spread

RANDOM = np.random.default_rng(0)
Z = RANDOM.normal(size=(20, 6)).astype(np.float32)
NEAR = Z + RANDOM.normal(size=Z.shape).astype(np.float32)
MASK = np.array([1, 0, 1, 1] * 5, np.float32)
KEPT = MASK == 1


def orthogonal(n, d):
    return np.linalg.qr(RANDOM.normal(size=(n, d)))[0]


def with_variances(n, variances):
    """Centered features whose covariance has these eigenvalues."""
    columns = RANDOM.normal(size=(n, len(variances)))
    columns = np.linalg.qr(columns - columns.mean(axis=0))[0]
    turned = (columns * np.sqrt(variances)) @ orthogonal(len(variances), len(variances))
    return jnp.asarray(turned, jnp.float32)


def test_spread_is_one_on_a_sphere_and_zero_in_a_point():
    sphere = RANDOM.normal(size=(20_000, 8)).astype(np.float32)
    np.testing.assert_allclose(spread(sphere), 1, atol=1e-3)
    # The length of rows does not matter, and of a cone only the directions across its axis count.
    np.testing.assert_allclose(spread(sphere * np.float32(1e3)), spread(sphere), rtol=1e-5)
    assert spread(sphere * np.float32(0.01) + 1) < 0.03
    assert spread(np.full((9, 4), 0.3, np.float32)) < 1e-6
    assert spread(np.zeros((9, 4), np.float32)) == 0


def test_the_cheap_ones_are_those_of_numpy():
    def unit(z):
        return np.float64(z) / np.linalg.norm(np.float64(z), axis=1, keepdims=True)

    similar = unit(Z) @ unit(NEAR).T
    hits = np.mean(similar.argmax(axis=1) == np.arange(20))
    assert 0 < hits < 1
    np.testing.assert_allclose(spread(Z), unit(Z).std(axis=0).mean() * np.sqrt(6), rtol=1e-5)
    np.testing.assert_allclose(positive_cosine(Z, NEAR), np.diag(similar).mean(), rtol=1e-5)
    np.testing.assert_allclose(instance_accuracy(Z, NEAR), hits, rtol=1e-6)
    # Where all are alike, one guess in n is right.
    np.testing.assert_allclose(instance_accuracy(np.ones_like(Z), np.ones_like(Z)), 1 / 20)


CHEAP = {
    "spread": lambda first, second, mask=None: spread(first, mask),
    "positive_cosine": positive_cosine,
    "instance_accuracy": instance_accuracy,
}
cheap = pytest.mark.parametrize("function", CHEAP.values(), ids=CHEAP)


@cheap
def test_masked_rows_change_nothing(function):
    few = function(Z[KEPT], NEAR[KEPT])
    # Padding that would be the best answer to the question before it.
    first = np.where(KEPT[:, None], Z, np.roll(NEAR, 1, axis=0))
    second = np.where(KEPT[:, None], NEAR, np.roll(Z, 1, axis=0))
    np.testing.assert_allclose(jax.jit(function)(first, second, MASK), few, rtol=1e-5)
    assert function(Z, NEAR, np.zeros(20, np.float32)) == 0
    pairs = np.stack([Z, first]), np.stack([NEAR, second]), np.stack([MASK] * 2)
    several = jax.vmap(function)(*pairs)
    np.testing.assert_allclose(several, [few, few], rtol=1e-5)


@cheap
@pytest.mark.parametrize("rows", ["zeros", "alike", "some zeros"])
def test_values_and_derivatives_of_collapsed_features_are_finite(function, rows):
    z = jnp.asarray({"zeros": 0 * Z, "alike": 0 * Z + 1, "some zeros": MASK[:, None] * Z}[rows])
    for values in jax.jit(jax.value_and_grad(function, argnums=(0, 1)))(z, z):
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(values))


def test_rankme_of_orthogonal_columns_is_their_number_and_of_rank_one_is_one():
    np.testing.assert_allclose(rankme(jnp.asarray(orthogonal(40, 7), jnp.float32)), 7, rtol=1e-4)
    np.testing.assert_allclose(rankme(np.outer(Z[:, 0], Z[0])), 1, rtol=1e-4)
    assert np.isfinite(rankme(np.zeros((5, 3), np.float32)))
    sigma = np.linalg.svd(np.float64(Z), compute_uv=False)
    p = sigma / sigma.sum()
    np.testing.assert_allclose(rankme(Z), np.exp(-np.sum(p * np.log(p))), rtol=1e-5)


def test_rankme_and_alpha_req_do_not_change_with_scale_and_rotation():
    turned = jnp.asarray(1e3 * Z @ orthogonal(6, 6), jnp.float32)
    for function in (rankme, alpha_req):
        value = function(Z)
        np.testing.assert_allclose(function(turned), value, rtol=1e-4)
        np.testing.assert_allclose(jax.jit(function)(Z[::-1]), value, rtol=1e-4)
        np.testing.assert_allclose(jax.vmap(function)(Z[None]), [value], rtol=1e-4)
    # Only the covariance does not know where the features are.
    np.testing.assert_allclose(alpha_req(Z + 5), alpha_req(Z), rtol=1e-3)
    assert rankme(Z + 5) < rankme(Z)


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_alpha_req_returns_the_power_of_a_made_spectrum(alpha):
    ranks = np.arange(1.0, 65)
    found = alpha_req(with_variances(200, ranks**-alpha))
    np.testing.assert_allclose(found, alpha, atol=1e-3)
    # What is outside of the range does not matter, nor do dimensions without variance.
    bent = ranks**-alpha
    bent[:4], bent[32:] = bent[0] * 3, 0
    z = with_variances(200, bent)
    np.testing.assert_allclose(alpha_req(z, 5, 32), alpha, atol=1e-3)
    np.testing.assert_allclose(alpha_req(z, first=5), alpha, atol=1e-3)


def test_alpha_req_of_fewer_than_two_directions_is_infinite():
    for z in (np.outer(Z[:, 0], Z[0]), np.zeros((5, 3), np.float32)):
        assert alpha_req(z) == np.inf


def test_whole_numbers_are_features_too():
    whole = np.random.default_rng(0).integers(-9, 9, (12, 3))
    for function in (spread, rankme):
        expected = function(jnp.asarray(whole, jnp.float32))
        np.testing.assert_allclose(function(jnp.asarray(whole, jnp.int32)), expected)


def test_half_precision_is_widened():
    half = jnp.asarray(Z, jnp.bfloat16)
    for function in (spread, rankme, alpha_req):
        np.testing.assert_allclose(function(half), function(half.astype(jnp.float32)))


@pytest.mark.parametrize("function", [spread, rankme, alpha_req])
def test_other_shapes_are_refused(function):
    with pytest.raises(ValueError, match=r"shape \(6,\): give one row"):
        function(Z[0])


def test_unpaired_features_and_empty_ranges_are_refused():
    for function in (positive_cosine, instance_accuracy):
        with pytest.raises(ValueError, match=r"shapes \(20, 6\) and \(19, 6\): give both"):
            function(Z, Z[1:])
    for first, last in ((0, None), (6, None), (3, 3), (1, 7)):
        with pytest.raises(ValueError, match=r"ranks 1 to 6, .*: give a range"):
            alpha_req(Z, first, last)


@pytest.mark.parametrize(
    "diagnostic",
    [
        spread,
        rankme,
        alpha_req,
        lambda z: positive_cosine(z, z),
    ],
)
def test_features_that_are_not_numbers_have_no_figure(diagnostic):
    features = jax.random.normal(jax.random.key(0), (6, 4)).at[2, 1].set(jnp.nan)
    assert np.isnan(diagnostic(features))
