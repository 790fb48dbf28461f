"""Trajectories that go on from step to step, and gradients from values: closed forms."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta.data import quadratics
from jaxmeta.inner import coordinatewise_lstm
from jaxmeta.losses import sum_of_squares
from jaxmeta.nn import from_functions, linear, mlp
from jaxmeta.objectives import Trajectory, evolution_strategies, trajectories
from jaxmeta.train import init_carry, init_train_state, outer_loop
from jaxmeta.types import Array, Batch, Carried, Episode, Key, Objective, PyTree, Report

KEY = jax.random.key(0)
LSTM = coordinatewise_lstm((3,), log_range=None)
SAMPLE = quadratics(size=4)["train"].episodes(ways=1, shots=5, queries=5)
ONE, OTHER = (SAMPLE((), jax.random.key(i)) for i in (1, 2))


def going_on(stretch: int, horizon: int, **fields: bool) -> Objective:
    return trajectories(linear(1), LSTM, sum_of_squares, stretch=stretch, horizon=horizon, **fields)


def shaken_weights() -> PyTree:
    params, _ = going_on(2, 4).init(KEY, ONE)
    return jax.tree.map(lambda w: w + 0.3 * jax.random.normal(KEY, w.shape), params)


def begun(objective: Objective, params: PyTree) -> Trajectory:
    """A trajectory at its beginning."""
    assert objective.carry is not None
    carry = objective.carry(params, (), ONE, KEY)
    return carry._replace(step=jnp.int32(0))


def test_a_stretch_is_the_optimizer_in_a_loop_of_ones_own() -> None:
    params, objective = shaken_weights(), going_on(3, 6)
    carry = begun(objective, params)
    value, report = objective.loss(params, (), Carried(OTHER, carry), KEY)
    optimizer = LSTM.optimizer(params["hyper"])
    fast, state, losses = carry.fast, carry.optimizer, []

    def loss(fast: PyTree) -> Array:
        outputs, _ = linear(1).apply(fast, {}, ONE.support.x)
        return sum_of_squares(outputs, ONE.support.y, ONE.support.mask)

    for _ in range(3):
        updates, state = optimizer.update(jax.grad(loss)(fast), state, fast)
        fast = optax.apply_updates(fast, updates)
        losses.append(loss(fast))
    np.testing.assert_allclose(value, np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(report.metrics["final_loss"], losses[-1], rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), report.carry.fast, fast
    )


def test_two_stretches_are_one_of_twice_the_length_and_then_another_trajectory_begins() -> None:
    params = shaken_weights()
    short, long = going_on(2, 4), going_on(4, 4)
    step = jax.jit(short.loss)
    first, report = step(params, (), Carried(OTHER, begun(short, params)), KEY)
    assert (int(report.carry.step), bool(report.carry.done)) == (2, False)
    second, report = step(params, (), Carried(OTHER, report.carry), KEY)
    assert bool(report.carry.done)
    whole, expected = long.loss(params, (), Carried(OTHER, begun(long, params)), KEY)
    np.testing.assert_allclose((first + second) / 2, whole, rtol=1e-5)
    np.testing.assert_allclose(
        report.carry.fast["kernel"], expected.carry.fast["kernel"], rtol=1e-5
    )
    # The new one has the newly drawn episode, and its own start.
    _, after = step(params, (), Carried(OTHER, report.carry), jax.random.key(5))
    assert (int(after.carry.step), bool(after.carry.done)) == (2, False)
    np.testing.assert_array_equal(after.carry.episode.support.x, OTHER.support.x)
    np.testing.assert_array_equal(report.carry.episode.support.x, ONE.support.x)


def test_first_trajectories_end_at_different_times() -> None:
    objective = going_on(5, 20)
    assert objective.carry is not None
    params, _ = objective.init(KEY, ONE)
    begin = objective.carry
    carry = jax.vmap(lambda key: begin(params, (), ONE, key).step)(jax.random.split(KEY, 64))
    assert set(carry.tolist()) == {0, 5, 10, 15}


def test_the_outer_loop_differentiates_one_stretch_only() -> None:
    params, objective = shaken_weights(), going_on(2, 8)
    carry = begun(objective, params)
    descent = optax.sgd(1e-4)
    given = init_train_state(descent, params, (), jax.tree.map(lambda leaf: leaf[None], carry))
    sample = lambda data, key: OTHER  # noqa: E731
    update = outer_loop(objective, descent, sample, 1)
    one, _ = update(given, (), KEY, 1)

    def second(params: PyTree, carry: PyTree) -> Array:
        return objective.loss(params, (), Carried(OTHER, carry), KEY)[0]

    after = jax.tree.map(lambda leaf: leaf[0], one.carry)
    slope = jax.grad(second)(one.params, after)["hyper"]["output"]["bias"]
    begun_at = float(one.params["hyper"]["output"]["bias"])  # the state is donated
    two, _ = update(one, (), KEY, 1)
    moved = begun_at - float(two.params["hyper"]["output"]["bias"])
    assert moved / 1e-4 == pytest.approx(float(slope), rel=0.02)


def test_examples_without_a_label_and_absent_classes_do_not_count() -> None:
    network = mlp(3, hidden=())
    objective = trajectories(network, LSTM, ways=3, stretch=2, horizon=4)
    x = jnp.float32(np.random.default_rng(0).normal(size=(4, 2)))
    some = Batch(x, jnp.array([0, 1, -1, -1]), jnp.ones(4))
    fewer = Batch(x, jnp.array([0, 1, 0, 0]), jnp.array([1.0, 1.0, 0.0, 0.0]))
    known = Batch(x[:2], jnp.array([0, 1]), jnp.ones(2))
    params, _ = objective.init(KEY, Episode(some, known))
    params = jax.tree.map(lambda w: w + 0.3 * jax.random.normal(KEY, w.shape), params)
    assert objective.carry is not None
    carries = []
    for support in (some, fewer):
        carry = objective.carry(params, (), Episode(support, known), KEY)
        task = Carried(Episode(support, known), carry)
        carries.append(objective.loss(params, (), task, KEY)[1].carry)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), carries[0].fast, carries[1].fast
    )
    # No gradient reaches the outputs of the class that is absent, so all of them move alike.
    moved = carries[0].fast["head"]["bias"]
    assert moved[0] != moved[1]


@pytest.mark.parametrize(("first_order", "solution"), [(False, 1.0), (True, 2.0)])
def test_darts_finds_the_bilevel_solution_and_in_first_order_does_not(first_order, solution):
    """L_train = w^2 - 2 a w + a^2 and L_val = a w - 2 a + 1 (Liu et al., 2019, section 3.3)."""

    def losses(params: PyTree, x: Array) -> Array:
        w, a = params["w"], params["mix"]
        return jnp.stack([w**2 - 2 * a * w + a**2, a * w - 2 * a + 1])[None]

    def picked(outputs: Array, y: Array, mask: Array) -> Array:
        return outputs[0, y[0]]

    toy = from_functions(lambda key, x: {"w": jnp.float32(-2), "mix": jnp.float32(2)}, losses)
    # Without the unrolled step, w is a constant for the query loss.
    objective = trajectories(
        toy,
        optax.sgd(0.5),
        picked,
        stretch=1,
        fast=lambda name: name == "w",
        renewed=True,
        first_order=first_order,
    )
    one = Batch(jnp.zeros((1, 1)), jnp.zeros(1, jnp.int32), jnp.ones(1))
    episode = Episode(one, one._replace(y=jnp.ones(1, jnp.int32)))
    params, state = objective.init(KEY, episode)
    carry = init_carry(objective, params, state, lambda data, key: episode, (), KEY, 1)
    optimizer = optax.sgd(0.1)
    begun = init_train_state(optimizer, params, state, carry)
    update = outer_loop(objective, optimizer, lambda data, key: episode, 1)
    after, _ = update(begun, (), KEY, 300)
    assert float(after.params["model"]["mix"]) == pytest.approx(solution, abs=1e-3)
    assert float(after.carry.fast["w"][0]) == pytest.approx(solution, abs=1e-3)


def test_a_renewed_episode_is_another_minibatch_of_the_same_training() -> None:
    objective = trajectories(linear(1), LSTM, sum_of_squares, stretch=2, horizon=4, renewed=True)
    params = shaken_weights()
    _, report = objective.loss(params, (), Carried(OTHER, begun(objective, params)), KEY)
    np.testing.assert_array_equal(report.carry.episode.support.x, OTHER.support.x)
    assert int(report.carry.step) == 2


@pytest.mark.parametrize(("stretch", "horizon"), [(0, 4), (3, 4), (4, 2)])
def test_a_horizon_is_whole_stretches(stretch: int, horizon: int) -> None:
    with pytest.raises(ValueError, match=r"stretch.*(0|3|4)"):
        going_on(stretch, horizon)


# Evolution strategies

H, START, RATE, SIGMA, STEPS = 1.0, 1.5, 0.5, 0.3, 3


class Place(NamedTuple):
    """Where gradient descent on a parabola stands."""

    theta: Array
    step: Array
    done: Array


def parabola(horizon: int) -> Objective:
    """Gradient descent on h theta^2 / 2, whose rate is learned, a step at a time."""

    def begin(params: PyTree, state: PyTree, task: PyTree, key: Key) -> Place:
        return Place(jnp.float32(START), jnp.int32(0), jnp.bool_(False))

    def loss(rate: Array, state: PyTree, task: Carried, key: Key) -> tuple[Array, Report]:
        theta = jnp.where(task.carry.done, START, task.carry.theta)
        step = jnp.where(task.carry.done, 0, task.carry.step) + 1
        theta = (1 - rate * H) * theta
        return H * theta**2 / 2, Report(carry=Place(theta, step, step >= horizon))

    return Objective(lambda key, task: (jnp.float32(RATE), ()), loss, carry=begin)


def estimates(noise: str, key: Key, horizon: int = STEPS, steps: int = STEPS) -> tuple:
    """The estimates of the stretches of one trajectory, and what was carried."""
    objective = evolution_strategies(parabola(horizon), SIGMA, noise)
    assert objective.carry is not None
    keys = jax.random.split(key, steps + 1)
    carry = objective.carry(jnp.float32(RATE), (), (), keys[0])

    def step(carry: PyTree, key: Key) -> tuple[PyTree, tuple[Array, PyTree]]:
        gradient, report = jax.grad(objective.loss, has_aux=True)(
            jnp.float32(RATE), (), Carried((), carry), key
        )
        return report.carry, (gradient, report.carry)

    return jax.lax.scan(step, carry, keys[1:])[1]


def on_average(noise: str) -> float:
    keys = jax.random.split(KEY, 400_000)
    totals = jax.jit(jax.vmap(lambda key: jnp.sum(estimates(noise, key)[0])))(keys)
    assert np.std(totals) / np.sqrt(len(keys)) < 0.01
    return float(np.mean(np.float64(totals)))


def test_persistent_noise_has_no_bias_of_truncation_and_fresh_noise_has() -> None:
    a = 1 - RATE * H
    m = a**2 + SIGMA**2 * H**2
    powers = [m ** (t - 1) for t in range(1, STEPS + 1)]
    scale = -(H**2) * START**2 * a
    unbiased = scale * sum(t * power for t, power in enumerate(powers, 1))
    biased = scale * sum(powers)
    assert on_average("persistent") == pytest.approx(unbiased, abs=0.03)
    assert on_average("fresh") == pytest.approx(biased, abs=0.03)
    assert abs(unbiased - biased) > 0.5


def test_a_single_noise_sums_to_the_estimate_of_the_whole_trajectory() -> None:
    for seed in range(3):
        found, carried = estimates("single", jax.random.key(seed))
        epsilon = np.float64(carried.noise[0])
        np.testing.assert_array_equal(carried.noise, carried.noise[0])

        def whole(rate: float) -> float:
            return sum(H * (START * (1 - rate * H) ** t) ** 2 / 2 for t in range(1, STEPS + 1))

        ends = [whole(RATE + sign * SIGMA * epsilon) for sign in (1, -1)]
        expected = (ends[0] - ends[1]) / (2 * SIGMA) * epsilon
        np.testing.assert_allclose(np.sum(np.float64(found)), expected, rtol=1e-4)


def test_where_every_step_is_a_trajectory_all_are_the_same() -> None:
    # The first begins by the carry, so the second is the first to draw its own single noise.
    persistent, single, fresh = (
        estimates(noise, KEY, horizon=1, steps=4)[0] for noise in ("persistent", "single", "fresh")
    )
    np.testing.assert_allclose(persistent, fresh, rtol=1e-6)
    np.testing.assert_allclose(persistent[1:], single[1:], rtol=1e-6)
    # Without a carry too.
    once = Objective(
        lambda key, task: (jnp.float32(RATE), ()),
        lambda rate, state, task, key: (H * (START * (1 - rate * H)) ** 2 / 2, Report()),
    )
    alone = evolution_strategies(once, SIGMA)
    keys = jax.random.split(KEY, 5)[1:]
    gradients = [
        jax.grad(alone.loss, has_aux=True)(jnp.float32(RATE), (), (), key)[0] for key in keys
    ]
    np.testing.assert_allclose(gradients, persistent, rtol=1e-5)


def test_noise_that_begins_anew_forgets_the_trajectory_before() -> None:
    _, carried = estimates("persistent", KEY, horizon=2, steps=6)
    sums, ends = np.asarray(carried.noise), np.asarray(carried.up.done)
    assert ends.tolist() == [False, True] * 3
    _, longer = estimates("persistent", KEY, horizon=6, steps=6)
    drawn = np.diff(np.asarray(longer.noise), prepend=0)
    np.testing.assert_allclose(sums, drawn + np.where(ends, np.roll(drawn, 1), 0), rtol=1e-4)


def test_mistakes_are_told() -> None:
    with pytest.raises(ValueError, match=r"sigma.*0"):
        evolution_strategies(parabola(1), sigma=0.0)
    with pytest.raises(ValueError, match="'other': choose 'persistent'"):
        evolution_strategies(parabola(1), noise="other")
    silent = parabola(1)._replace(carry=lambda *given: jnp.zeros(()))
    begin = evolution_strategies(silent).carry
    assert begin is not None
    with pytest.raises(ValueError, match="'done'"):
        begin(jnp.float32(RATE), (), (), KEY)
