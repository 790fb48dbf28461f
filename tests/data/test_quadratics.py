"""Quadratics as tasks, and an optimizer that learns to minimize them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta.data import quadratics
from jaxmeta.inner import coordinatewise_lstm, unroll
from jaxmeta.learners import from_scratch
from jaxmeta.losses import sum_of_squares
from jaxmeta.nn import linear
from jaxmeta.objectives import along
from jaxmeta.train import init_train_state, outer_loop
from jaxmeta.types import Learner, PyTree

KEY = jax.random.key(0)
SOURCE = quadratics(size=5)["train"]
SAMPLE = SOURCE.episodes(1, 5, 5)
LSTM = coordinatewise_lstm((8,), log_range=None)


def learning(steps: int, **options: int) -> Learner:
    loop = unroll(LSTM, steps, first_order=True, **options)
    return from_scratch(linear(1), inner=loop, loss=sum_of_squares)


def even(state: PyTree, steps: int) -> jax.Array:
    return jnp.ones(steps + 1)


def test_a_task_is_one_function_from_a_key() -> None:
    task, same, other = (SAMPLE((), jax.random.key(i)) for i in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, task, same)
    jax.tree.map(np.testing.assert_array_equal, task.support, task.query)
    assert np.abs(task.support.x - other.support.x).max() > 0.1
    many = jax.vmap(SAMPLE, (None, 0))((), jax.random.split(KEY, 400)).support
    for drawn in (many.x, many.y):
        assert 0 <= drawn.min() < 0.01
        assert 0.99 < drawn.max() < 1
        np.testing.assert_allclose(drawn.mean(), 0.5, atol=0.03)
    assert abs(np.corrcoef(many.x[:, 0, 0], many.y[:, 0, 0])[0, 1]) < 0.15


@jax.jit
def descended(key: jax.Array) -> jax.Array:
    """||W theta - y||^2 after ten steps of descent, by hand and by the learner."""
    task = SAMPLE((), key)
    learner = from_scratch(linear(1), inner=unroll(optax.sgd(0.05), 10), loss=sum_of_squares)
    adapted, _ = learner.adapt((), (), task.support, key)
    theta = adapted.params["model"]["kernel"]
    for _ in range(10):
        theta -= 0.05 * 2 * task.support.x.T @ (task.support.x @ theta - task.support.y)
    outputs, _ = learner.predict((), (), adapted, task.query.x)
    by_hand = jnp.sum((task.support.x @ theta - task.support.y) ** 2)
    return jnp.stack([by_hand, sum_of_squares(outputs, task.query.y, task.query.mask)])


def test_its_loss_is_that_of_linear_regression() -> None:
    by_hand, learned = descended(KEY)
    np.testing.assert_allclose(learned, by_hand, rtol=1e-5)


def test_row_t_of_the_path_from_scratch_is_after_t_steps() -> None:
    task = SAMPLE((), KEY)
    params, state = learning(3).init(KEY, task)
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    assert set(params) == {"hyper"}
    rows, _ = learning(3, truncate=2).path(params, state, task.support, KEY)
    for t in range(4):
        adapted, _ = learning(t).adapt(params, state, task.support, KEY)
        jax.tree.map(
            lambda row, one: np.testing.assert_allclose(row[t], one, rtol=1e-5, atol=1e-7),  # noqa: B023
            rows,
            adapted,
        )


def test_an_lstm_learns_to_minimize_them() -> None:
    objective = along(learning(10, truncate=5), sum_of_squares, even)
    optimizer = optax.adam(0.03)
    train_state = init_train_state(optimizer, *objective.init(KEY, SAMPLE((), KEY)))
    update = outer_loop(objective, optimizer, SAMPLE, meta_batch=16)
    losses = update(train_state, (), KEY, 50)[1]["loss"]
    assert losses[-10:].mean() < 0.15 * losses[0]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((2, 5, 5), "ways is 2.*ways=1"),
        ((1, 5, 6), "queries 6.*same number"),
        ((1, 0, 5), "shots.*0"),
    ],
)
def test_mistakes_are_told(given: tuple, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SOURCE.episodes(*given)
    with pytest.raises(ValueError, match=r"size.*0"):
        quadratics(size=0)
