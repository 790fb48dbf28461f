"""The outer loop, the objective and the evaluation on a problem worked out by hand."""

from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta.distributed.parallel import by_shard_map, replicate
from jaxmeta.evaluate import evaluator, summarize
from jaxmeta.gradients import estimate
from jaxmeta.learners import from_scratch, maml
from jaxmeta.losses import squared_error
from jaxmeta.nn import from_functions, mlp
from jaxmeta.objectives import episodic
from jaxmeta.pretraining import supervised
from jaxmeta.train import first_non_finite, init_train_state, outer_loop
from jaxmeta.types import Batch, Episode, Learner, Objective, Report

KEY = jax.random.key(0)
SLOPE = from_functions(lambda key, x: {"w": jnp.array([[2.0]])}, lambda p, x: x @ p["w"])


@jax.jit
def sample(data, key):
    """Lines through the origin."""
    slope_key, *keys = jax.random.split(key, 3)
    slope = jax.random.normal(slope_key)

    def points(key):
        x = jax.random.normal(key, (4, 1))
        return Batch(x, slope * x, jnp.ones(4))

    return Episode(*map(points, keys))


LEARNER = maml(SLOPE, steps=1, learning_rate=0.1, loss=squared_error)
OBJECTIVE = episodic(LEARNER, squared_error)


def loop():
    return outer_loop(OBJECTIVE, optax.sgd(0.1, momentum=0.9), sample, meta_batch=3)


def begin():
    return init_train_state(optax.sgd(0.1, momentum=0.9), *LEARNER.init(KEY, sample((), KEY)))


def test_meta_gradient_of_a_line_is_its_closed_form():
    episode = sample((), KEY)
    x, t = (np.asarray(v, np.float64)[:, 0] for v in (episode.support.x, episode.query.x))
    slope = float(episode.support.y[0, 0] / episode.support.x[0, 0])
    shrink = 1 - 2 * 0.1 * np.mean(x**2)
    adapted = slope + shrink * (2 - slope)
    by_hand = 2 * np.mean(t**2) * (adapted - slope) * shrink
    batch = jax.tree.map(lambda leaf: leaf[None], episode)
    params, state = LEARNER.init(KEY, episode)
    grads, report = estimate(OBJECTIVE)(params, state, batch, KEY[None])
    np.testing.assert_allclose(grads["model"]["w"], [[by_hand]], rtol=1e-4)
    loss = np.mean(t**2) * (adapted - slope) ** 2
    np.testing.assert_allclose(report.metrics["loss"], loss, rtol=1e-4)


def test_steps_in_one_call_or_many_are_the_same_to_the_bit():
    update = loop()
    together, metrics = update(begin(), (), KEY, 6)
    apart = begin()
    rows = []
    for _ in range(3):
        apart, row = update(apart, (), KEY, 2)
        rows.append(row["loss"])
    jax.tree.map(np.testing.assert_array_equal, together, apart)
    np.testing.assert_array_equal(metrics["loss"], jnp.concatenate(rows))


def test_nothing_leaves_the_device_inside_the_loop():
    update = loop()
    train_state, _ = update(begin(), (), KEY, 2)
    with jax.transfer_guard("disallow"):
        update(train_state, (), KEY, 2)


def test_state_is_an_average_of_what_normalized_the_queries():
    def predict(params, state, adapted, x, mask=None, key=None):
        return x, {"mean": jnp.mean(x)}

    learner = Learner(
        lambda key, episode: ((), {"mean": jnp.zeros(())}), lambda *_: ((), {}), predict
    )
    episodes = jax.vmap(sample, (None, 0))((), jax.random.split(KEY, 5))
    objective = episodic(learner, squared_error, decay=0.75)
    state = {"mean": jnp.float32(1.0)}
    _, report = estimate(objective)((), state, episodes, jax.random.split(KEY, 5))
    by_hand = 0.75 + 0.25 * np.mean(episodes.query.x)
    updated = objective.update(state, (), report.statistics)
    np.testing.assert_allclose(updated["mean"], by_hand, rtol=1e-5)
    with pytest.raises(ValueError, match="decay is 2: give the share, from 0 to 1"):
        episodic(learner, squared_error, decay=2)


def test_support_and_query_must_be_alike():
    episode = sample((), KEY)
    wide = episode._replace(query=episode.query._replace(x=jnp.ones((4, 2))))
    with pytest.raises(ValueError, match=r"shape \(1,\) but query examples have shape \(2,\)"):
        OBJECTIVE.loss((), {}, wide, KEY)


def test_a_task_of_another_kind_is_told():
    episode = sample((), KEY)
    with pytest.raises(ValueError, match=r"of episodes.* is a Batch: draw .*source.episodes"):
        OBJECTIVE.init(KEY, episode.support)
    with pytest.raises(ValueError, match=r"of batches.* is a Episode: draw .*source.batches"):
        supervised(mlp(2), classes=3).init(KEY, episode)


def test_a_carry_that_nobody_began_is_told():
    counting = Objective(
        init=lambda key, task: (jnp.zeros(()), ()),
        loss=lambda params, state, task, key: (params**2, Report(carry=task.carry + 1)),
        carry=lambda params, state, task, key: jnp.zeros(()),
    )
    update = outer_loop(counting, optax.sgd(0.1), sample, 2)
    with pytest.raises(ValueError, match=r"carries nothing.*init_carry"):
        update(init_train_state(optax.sgd(0.1), jnp.zeros(()), ()), (), KEY, 1)


def test_first_non_finite_row():
    good, bad = jnp.zeros(4), jnp.array([0.0, 0.0, jnp.nan, jnp.inf])
    sound, broken = {"w": good}, {"w": bad}
    assert first_non_finite({"loss": good, "outer_gradient_norm": good}, sound) is None
    assert first_non_finite({"loss": bad, "outer_gradient_norm": good}, sound) == 2
    assert first_non_finite({"loss": good, "outer_gradient_norm": bad}, sound) == 2
    assert first_non_finite({"loss": good, "outer_gradient_norm": good}, broken) == 3


@pytest.mark.parametrize("count", [1, 3])
def test_after_the_first_call_nothing_is_compiled_or_moved(count):
    devices = jax.devices()[:count]
    spread = by_shard_map(devices)
    update = outer_loop(OBJECTIVE, optax.adam(0.1), sample, meta_batch=3, spread=spread)
    initial = init_train_state(optax.adam(0.1), *LEARNER.init(KEY, sample((), KEY)))
    train_state, key = replicate((initial, KEY), devices)
    train_state, _ = update(train_state, (), key, 5)
    with jax.transfer_guard("disallow"), no_compilation():
        for _ in range(2):
            given = jax.tree.leaves(train_state)
            train_state, metrics = update(train_state, (), key, 5)
            assert all(leaf.is_deleted() for leaf in given)  # donated
    assert metrics["loss"].shape == (5,)


@contextmanager
def no_compilation():
    events = []

    def listen(event, *_, **__):
        events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield
    jax.monitoring.unregister_event_duration_listener(listen)
    assert not [event for event in events if "compile" in event or "trace" in event]


def test_evaluation_over_devices_is_that_of_one():
    metrics = {"error": squared_error, "size": lambda outputs, y, mask: jnp.sum(jnp.abs(outputs))}
    params, state = LEARNER.init(KEY, sample((), KEY))
    alone, shared, uneven = (
        evaluator(LEARNER, metrics, sample, 10, spread=by_shard_map(jax.devices()[:count]))(
            params, state, (), KEY
        )
        for count in (1, 5, 4)
    )
    assert alone.keys() == metrics.keys()
    for other in (shared, uneven):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), alone, other)


def test_evaluation_is_of_the_same_episodes_for_every_learner_and_chunk():
    def seen(params, state, adapted, x, mask=None, key=None):
        assert key is None
        return jnp.zeros_like(x), state

    blind = Learner(lambda key, episode: ((), ()), lambda *_: ((), {}), seen)
    values = [
        evaluator(blind, {"error": squared_error}, sample, 10, chunk)((), (), (), KEY)["error"]
        for chunk in (1, 4, None)
    ]
    by_hand = [
        jnp.mean(sample((), jax.random.split(jax.random.fold_in(KEY, i))[0]).query.y ** 2)
        for i in range(10)
    ]
    for value in values:
        np.testing.assert_allclose(value, by_hand, rtol=1e-5)
    outcome = summarize(values[0])
    np.testing.assert_allclose(outcome.mean, np.mean(by_hand), rtol=1e-5)
    np.testing.assert_allclose(
        outcome.ci95, 1.96 * np.std(by_hand, ddof=1) / np.sqrt(10), rtol=1e-4
    )


def test_from_scratch_is_adam_on_the_support_set_from_a_fresh_network():
    model = mlp(1, (8,))
    with jax.numpy_dtype_promotion("standard"):
        learner = from_scratch(model, steps=5, learning_rate=0.01, loss=squared_error)
        episode = sample((), KEY)
        adapt = jax.jit(learner.adapt)
        adapted, metrics = adapt((), (), episode.support, KEY)
        answers, _ = learner.predict((), (), adapted, episode.query.x)
        params, state = adapted.params["model"], {}
        optimizer = optax.adam(0.01)
        optimizer_state = optimizer.init(params)

        @jax.jit
        def step(params, optimizer_state):
            def loss(params):
                outputs, _ = model.apply(params, state, episode.support.x)
                return jnp.mean((outputs - episode.support.y) ** 2)

            value, grads = jax.value_and_grad(loss)(params)
            updates, optimizer_state = optimizer.update(grads, optimizer_state)
            return value, optax.apply_updates(params, updates), optimizer_state

        for reported in metrics["support_loss"]:
            value, params, optimizer_state = step(params, optimizer_state)
            np.testing.assert_allclose(reported, value, rtol=1e-5)
        np.testing.assert_allclose(
            answers, model.apply(params, state, episode.query.x)[0], rtol=1e-4, atol=1e-6
        )
        other, _ = adapt((), (), episode.support, jax.random.key(1))
    kernels = [a.params["model"]["head"]["kernel"] for a in (adapted, other)]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.01
