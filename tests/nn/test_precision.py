import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.nn import conv4, mixed_precision
from jaxmeta.runs.config import build_model

KEY = jax.random.key(0)
# One process compiles for all.
pytestmark = pytest.mark.xdist_group("precision")


@pytest.fixture(scope="module")
def both():
    model = conv4(3, filters=4)
    x = jax.random.normal(KEY, (6, 16, 16, 1))
    params, state = model.init(KEY, x)

    def loss(params, apply):
        outputs, used = apply(params, state, x, None, None, True)
        return jnp.mean(outputs**2), used

    def run(apply):
        (value, used), gradient = jax.jit(
            jax.value_and_grad(lambda params: loss(params, apply), has_aux=True)
        )(params)
        return value, used, gradient

    return run(model.apply), run(mixed_precision(model).apply), x, params, state, model


def test_outputs_gradients_and_statistics_are_wide(both):
    _, mixed, *_ = both
    assert {leaf.dtype for leaf in jax.tree.leaves(mixed)} == {jnp.dtype("float32")}


def test_it_agrees_to_the_bits_that_are_left(both):
    wide, narrow = (
        [np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(part)]) for part in result]
        for result in both[:2]
    )
    for a, b in zip(wide, narrow, strict=True):
        cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        assert cosine > 0.98
        np.testing.assert_allclose(np.linalg.norm(a), np.linalg.norm(b), rtol=0.05)
    assert not np.array_equal(wide[2], narrow[2])


def test_the_arithmetic_is_narrow(both):
    *_, x, params, state, model = both
    narrow = mixed_precision(model)
    program = jax.jit(lambda p: narrow.apply(p, state, x)[0]).lower(params).as_text()
    products = [line for line in program.splitlines() if "dot_general" in line]
    # Sums for the statistics are products with a vector, and wide.
    of_matrices = [line for line in products if not re.search(r"-> tensor<\d+xf32>", line)]
    assert of_matrices
    assert all("bf16" in line for line in of_matrices)


def test_given_statistics_are_used(both):
    *_, x, params, state, model = both
    wide, _ = model.apply(params, state, x, None, None, False)
    narrow, used = mixed_precision(model).apply(params, state, x, None, None, False)
    np.testing.assert_allclose(wide, narrow, atol=0.1 * float(jnp.max(jnp.abs(wide))))
    jax.tree.map(np.testing.assert_array_equal, used, state)


def test_a_config_asks_for_it():
    config = {"model": {"make": "jaxmeta.nn.mlp", "outputs": 3}}
    x = jax.random.normal(jax.random.key(0), (4, 5))
    plain, asked = (build_model({**config, "mixed_precision": yes}) for yes in (False, True))
    params, state = plain.init(jax.random.key(1), x)
    full, half = (model.apply(params, state, x)[0] for model in (plain, asked))
    assert 0 < jnp.abs(full - half).max() < 0.1
    assert half.dtype == jnp.float32
