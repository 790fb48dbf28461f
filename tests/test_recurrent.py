"""The optimizer that is an LSTM, against what it must not see and against another LSTM."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen

from jaxmeta.inner import coordinatewise_lstm, unroll
from jaxmeta.inner.recurrent import log_and_sign, lstm_step
from jaxmeta.types import PyTree

KEY = jax.random.key(0)
LSTM = coordinatewise_lstm((4, 3))
SOME = {"a": jnp.arange(6.0).reshape(2, 3) - 2, "b": jnp.array([0.3, -1e-6, 0.0])}


def random_weights(like: PyTree = SOME) -> PyTree:
    """Weights whose output layer is not zero either."""
    weights = LSTM.hyper(KEY, like)
    return jax.tree.map(lambda leaf: leaf + 0.5 * jax.random.normal(KEY, leaf.shape), weights)


@jax.jit
def moved(params: PyTree, weights: PyTree) -> PyTree:
    """Parameters after three steps of a loss that is the same for every coordinate."""
    loop = unroll(LSTM, 3)
    fourth = lambda leaves, key: sum(jnp.sum(x**4) for x in jax.tree.leaves(leaves))  # noqa: E731
    return loop.run(fourth, params, weights, KEY)[0]


def test_coordinates_do_not_know_each_other() -> None:
    weights = random_weights()
    given = moved(SOME, weights)
    assert all(np.abs(given[name] - SOME[name]).max() > 0.01 for name in SOME)
    order = np.random.default_rng(0).permutation(6)
    flat = SOME["a"].reshape(-1)
    np.testing.assert_array_equal(moved(flat[order], weights), given["a"].reshape(-1)[order])
    split = moved([flat[:2], {"rest": flat[2:, None]}, SOME["b"]], weights)
    rest = split[1]["rest"][:, 0]
    joined = jnp.concatenate([split[0], rest, split[2]])
    whole = jnp.concatenate([given["a"].reshape(-1), given["b"]])
    np.testing.assert_array_equal(joined, whole)


def test_before_training_it_moves_nothing_and_what_it_will_answer_has_a_gradient() -> None:
    weights = LSTM.hyper(KEY, SOME)
    jax.tree.map(np.testing.assert_array_equal, moved(SOME, weights), SOME)
    final = lambda w: optax.tree.norm(moved(SOME, w), squared=True)  # noqa: E731
    gradient = jax.grad(final)(weights)["output"]
    assert np.abs(gradient["kernel"]).max() > 1e-3
    assert np.abs(gradient["bias"]) > 1e-3


def test_it_is_an_optax_transformation_for_any_loop() -> None:
    weights = random_weights()
    optimizer = LSTM.optimizer(weights)
    params, state = SOME, optimizer.init(SOME)
    for _ in range(3):
        gradient = jax.tree.map(lambda leaf: 4 * leaf**3, params)
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), params, moved(SOME, weights)
    )


def test_a_step_of_memory_is_that_of_flax() -> None:
    x, h, c = (jax.random.normal(jax.random.key(i), (5, n)) for i, n in enumerate((2, 3, 3)))
    cell = linen.OptimizedLSTMCell(3)
    params = cell.init(KEY, (c, h), x)["params"]
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(KEY, leaf.shape), params)
    (next_c, next_h), _ = cell.apply({"params": params}, (c, h), x)
    gates = "ifog"
    kernel = jnp.concatenate(
        [
            jnp.concatenate([params[f"{part}{gate}"]["kernel"] for gate in gates], axis=1)
            for part in "ih"
        ]
    )
    # Ours remembers by a 1, which flax leaves to the bias.
    bias = jnp.concatenate([params[f"h{gate}"]["bias"] - float(gate == "f") for gate in gates])
    own_h, own_c = lstm_step({"kernel": kernel, "bias": bias}, x, h, c)
    np.testing.assert_allclose(own_h, next_h, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(own_c, next_c, rtol=1e-5, atol=1e-6)


def test_gradients_of_any_size_are_read_alike() -> None:
    p = 5.0
    edge = np.exp(-p)
    below, above = (log_and_sign(jnp.float32(edge * (1 + x)), p) for x in (-1e-4, 1e-4))
    np.testing.assert_allclose(below, above, atol=1e-3)
    np.testing.assert_allclose(log_and_sign(jnp.float32(edge / 2), p), [-1, 0.5], rtol=1e-5)
    np.testing.assert_allclose(log_and_sign(jnp.float32(-np.exp(2.0)), p), [0.4, -1], rtol=1e-5)
    for gradient in (0.0, 1e-30, -1e-8, 1e30):
        slope = jax.jacobian(lambda g: log_and_sign(g, p))(jnp.float32(gradient))
        assert np.isfinite(slope).all()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"layers": ()}, r"layers.*\(20, 20\)"),
        ({"layers": (20, 0)}, "size.*0"),
        ({"scale": 0.0}, "scale.*0"),
        ({"log_range": -1.0}, "log_range.*-1"),
    ],
)
def test_mistakes_are_told(fields: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        coordinatewise_lstm(**fields)
