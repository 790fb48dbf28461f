"""Weighted sums of operations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.inner import sgd, unroll
from jaxmeta.learners import gradient_learner
from jaxmeta.nn import conv_block, mixture, mlp, outside_mixtures, pooling
from jaxmeta.types import Batch, Episode
from tests.objective_contracts import normalized_mlp

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (4, 5))
ONE, OTHER = mlp(3, hidden=()), normalized_mlp(3)


def test_it_is_the_sum_of_its_operations_by_the_softmax_of_its_weights() -> None:
    model = mixture(one=ONE, other=OTHER)
    params, state = model.init(KEY, X)
    params["mix"] = jnp.array([1.0, -0.5])
    shares = np.exp([1.0, -0.5]) / np.exp([1.0, -0.5]).sum()
    parts = [
        part.apply(params[name], state[name], X) for name, part in (("one", ONE), ("other", OTHER))
    ]
    outputs, used = model.apply(params, state, X)
    expected = sum(share * part for share, (part, _) in zip(shares, parts, strict=True))
    np.testing.assert_allclose(outputs, expected, rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, used["other"], parts[1][1])


def test_one_operation_is_itself() -> None:
    model = mixture(one=ONE)
    params, state = model.init(KEY, X)
    np.testing.assert_array_equal(
        model.apply(params, state, X)[0], ONE.apply(params["one"], {}, X)[0]
    )


def test_its_weights_are_learned_and_do_not_adapt() -> None:
    learner = gradient_learner(
        mixture(one=ONE, other=OTHER), unroll(sgd(0.1), 1), ways=3, fast=outside_mixtures
    )
    batch = Batch(X, jnp.array([0, 1, 2, 0]), jnp.ones(4))
    params, state = learner.init(KEY, Episode(batch, batch))

    def loss(params):
        adapted, _ = learner.adapt(params, state, batch, KEY)
        assert adapted.fast["mix"] is None
        return jnp.sum(learner.predict(params, state, adapted, X)[0] ** 2)

    assert np.abs(jax.grad(loss)(params)["model"]["mix"]).max() > 1e-3


def test_mistakes_are_told() -> None:
    with pytest.raises(ValueError, match="of none"):
        mixture()
    with pytest.raises(ValueError, match="none called 'mix'"):
        mixture(mix=ONE)
    images = jnp.ones((2, 6, 6, 1))
    with pytest.raises(ValueError, match=r"shapes .*\(2, 3, 3, 8\).*\(2, 3, 3, 1\)"):
        mixture(conv=conv_block(8), pool=pooling()).init(KEY, images)
