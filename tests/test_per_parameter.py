"""The network applied to every parameter: NumPy, closed forms, and what must not matter."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta.inner import factored_moments, momenta, per_parameter, unroll
from jaxmeta.inner.per_parameter import TIMES, Features
from jaxmeta.types import Key, PyTree

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
THETA = {"a": jnp.float32(RANDOM.normal(size=(3, 2))), "b": jnp.float32(RANDOM.normal(size=4))}
MOMENTA = per_parameter(momenta((0.5, 0.9)), (5,), scale=0.1)
FACTORED = per_parameter(factored_moments(), (4, 4), scale=0.1)
BOTH = pytest.mark.parametrize("learned", [MOMENTA, FACTORED], ids=["momenta", "factored"])


def quartic(leaves: PyTree, key: Key) -> jax.Array:
    """A loss that treats all coordinates alike."""
    return sum((jnp.sum(leaf**4 - leaf**3) for leaf in jax.tree.leaves(leaves)), jnp.zeros(()))


def weights_of(learned, by: float = 0.1) -> PyTree:
    """Weights, none of which is zero."""
    weights = learned.hyper(KEY, THETA)
    return jax.tree.map(lambda leaf: leaf + by * jax.random.normal(KEY, leaf.shape), weights)


def test_it_has_as_many_weights_as_the_papers() -> None:
    def count(learned, name: str) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(learned.hyper(KEY, THETA)[name]))

    assert count(per_parameter(momenta()), "network") == 1_762
    assert count(FACTORED, "network") == 190
    assert count(FACTORED, "features") == 7


def test_two_steps_are_those_of_numpy() -> None:
    weights = weights_of(MOMENTA)
    optimizer = MOMENTA.optimizer(weights)
    params, state = THETA, optimizer.init(THETA)
    kernels = [
        (np.float64(layer["kernel"]), np.float64(layer["bias"])) for layer in weights["network"]
    ]
    expected = jax.tree.map(np.float64, THETA)
    means = jax.tree.map(lambda leaf: np.zeros((*leaf.shape, 2)), expected)
    for step in range(2):
        gradient = jax.grad(quartic)(params, KEY)
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        for name, leaf in expected.items():
            g = 4 * leaf**3 - 3 * leaf**2
            decays = np.array([0.5, 0.9])
            means[name] = decays * means[name] + (1 - decays) * g[..., None]
            read = np.concatenate([g[..., None], leaf[..., None], means[name]], axis=-1)
            read = read.reshape(-1, 4)
            read = read / np.sqrt(1e-5 + (read**2).mean(axis=0))
            times = np.tanh(step / np.array(TIMES) - 1)
            x = np.concatenate([read, np.tile(times, (len(read), 1))], axis=1)
            x = np.maximum(x @ kernels[0][0] + kernels[0][1], 0) @ kernels[1][0] + kernels[1][1]
            moves = 0.1 * x[:, 0] * np.exp(0.1 * x[:, 1])
            expected[name] = leaf - moves.reshape(leaf.shape)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), params, expected)


def read_once(features: Features, leaf: np.ndarray, gradients: list) -> np.ndarray:
    """The features after some gradients."""
    memory = features.init(jnp.float32(leaf))
    for gradient in gradients:
        found, memory = features.read(
            features.hyper, memory, jnp.float32(leaf), jnp.float32(gradient)
        )
    return np.asarray(found)


@pytest.mark.parametrize("shape", [(4, 3), (2, 5, 3), (6,), ()])
def test_factored_moments_are_their_definitions(shape: tuple) -> None:
    features = factored_moments((0.8,), (0.7,), (0.6,))
    leaf, gradients = RANDOM.normal(size=shape), [*RANDOM.normal(size=(2, *shape))]
    found = read_once(features, leaf, gradients)
    assert found.shape == (*shape, features.size)
    m, v, squares = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for g in gradients:
        m, v, squares = 0.8 * m + 0.2 * g, 0.7 * v + 0.3 * g**2, 0.6 * squares + 0.4 * g**2
    if len(shape) < 2:
        row = column = whole = squares
    else:
        first, last = np.argsort(shape, kind="stable")[-2:]  # the longest is the last
        row = squares.mean(axis=last, keepdims=True)
        column = squares.mean(axis=first, keepdims=True)
        whole = row * column / row.mean(axis=first, keepdims=True)
        row, column = (np.broadcast_to(each, shape) for each in (row, column))
    expected = [
        *(g, leaf, m, v, m / np.sqrt(v), 1 / np.sqrt(v), g / np.sqrt(whole)),
        *(row, column, row**-0.5, column**-0.5, m / np.sqrt(whole)),
    ]
    np.testing.assert_allclose(found, np.stack(expected, axis=-1), rtol=1e-3)


def test_moments_of_rows_and_columns_are_exact_where_squares_are_a_product() -> None:
    gradient = np.outer([1.0, -2.0, 0.5], [3.0, -1.0])
    found = read_once(factored_moments(factored=(0.9,) * 3), gradient, [gradient])
    np.testing.assert_allclose(found[..., 12], np.sign(gradient) / np.sqrt(0.1), rtol=1e-3)


def test_the_scale_of_the_loss_does_not_matter() -> None:
    optimizer = MOMENTA.optimizer(weights_of(MOMENTA))
    gradient = jax.grad(quartic)(THETA, KEY)

    def first(factor: float) -> PyTree:
        scaled = jax.tree.map(lambda g: factor * g, gradient)
        return optimizer.update(scaled, optimizer.init(THETA), THETA)[0]

    one, other = first(100.0), first(1e5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-5), one, other)
    assert np.abs(one["a"]).max() > 1e-3


def test_entries_of_an_array_know_each_other_by_their_root_mean_square_alone() -> None:
    weights = weights_of(MOMENTA)
    after = jax.jit(lambda theta: unroll(MOMENTA, 3).run(quartic, theta, weights, KEY)[0])
    straight, order = after(THETA), np.array([2, 0, 3, 1])
    permuted = after({"a": THETA["a"].T, "b": THETA["b"][order]})
    np.testing.assert_allclose(permuted["b"], straight["b"][order], rtol=1e-5)
    np.testing.assert_allclose(permuted["a"].T, straight["a"], rtol=1e-5)


@BOTH
def test_everything_that_is_learned_has_a_gradient(learned) -> None:
    weights = weights_of(learned)

    @jax.jit
    def gradient(weights: PyTree) -> PyTree:
        end = lambda w: quartic(unroll(learned, 3).run(quartic, THETA, w, KEY)[0], KEY)  # noqa: E731
        return jax.grad(end)(weights)

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(weights)):
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 1e-9, path


@BOTH
def test_it_is_an_optax_transformation_for_any_loop(learned) -> None:
    weights = weights_of(learned)
    optimizer = learned.optimizer(weights)
    params, state = THETA, optimizer.init(THETA)
    for _ in range(3):
        updates, state = optimizer.update(jax.grad(quartic)(params, KEY), state, params)
        params = optax.apply_updates(params, updates)
    last, _ = unroll(learned, 3).run(quartic, THETA, weights, KEY)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), params, last)
    with pytest.raises(ValueError, match=r"update\(gradient, state, params\)"):
        optimizer.update(params, state)


def test_mistakes_are_told() -> None:
    with pytest.raises(ValueError, match=r"size.*0"):
        per_parameter(momenta(), (4, 0))
    with pytest.raises(ValueError, match=r"scale.*-1"):
        per_parameter(momenta(), scale=-1.0)
    with pytest.raises(ValueError, match=r"decay is 1\.0"):
        momenta((0.5, 1.0))
    with pytest.raises(ValueError, match=r"3 decays of momenta, 2 of second"):
        factored_moments(second=(0.9, 0.99))
