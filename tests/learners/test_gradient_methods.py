"""The methods that differentiate an inner loop, each against MAML or its own definition."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta.gradients import mean_gradient
from jaxmeta.inner import sgd, unroll
from jaxmeta.learners import (
    anil,
    gradient_learner,
    maml,
    maml_plus_plus,
    meta_sgd,
    prototypical,
    reptile,
)
from jaxmeta.learners.frames.gradient import draw
from jaxmeta.losses import cross_entropy
from jaxmeta.nn import from_functions, mlp
from jaxmeta.objectives import episodic, multi_step
from jaxmeta.objectives import reptile as reptile_objective
from jaxmeta.train import outer_loop, start
from jaxmeta.types import Batch, Episode, Model

KEY = jax.random.key(0)
MODEL = mlp(3, (5,))


def batch(key, each):
    y = jnp.repeat(jnp.arange(3), each)
    return Batch(jax.random.normal(key, (3 * each, 4)), y, jnp.ones(3 * each))


def sample(data, key):
    one, other = jax.random.split(key)
    return Episode(batch(one, 2), batch(other, 3))


TASKS = jax.vmap(sample, (None, 0))((), jax.random.split(jax.random.key(1), 4))
KEYS = jax.random.split(jax.random.key(2), 4)
FIRST = jax.tree.map(lambda leaf: leaf[0], TASKS)


def gradient_of(objective, params, state):
    return jax.jit(mean_gradient(objective))(params, state, TASKS, KEYS)


def same(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6), one, other)


def test_meta_sgd_with_frozen_rates_is_maml():
    ours = meta_sgd(MODEL, 3, steps=3, learning_rate=0.2)
    params, state = ours.init(KEY, FIRST)
    gradient, _ = gradient_of(episodic(ours, cross_entropy), params, state)
    reference = maml(MODEL, 3, steps=3, learning_rate=0.2)
    theirs, _ = gradient_of(
        episodic(reference, cross_entropy), {"model": params["model"], "hyper": ()}, state
    )
    same(gradient["model"], theirs["model"])
    assert optax.tree.norm(gradient["hyper"]) > 1e-3


@pytest.mark.parametrize(("first_order_until", "first_order"), [(0, False), (5, True)])
def test_maml_plus_plus_with_everything_off_is_maml(first_order_until, first_order):
    ours = maml_plus_plus(
        MODEL,
        3,
        steps=3,
        learning_rate=0.2,
        learned_rates=False,
        per_step_normalization=False,
        first_order_until=first_order_until,
    )
    params, state = ours.init(KEY, FIRST)
    reference = maml(MODEL, 3, steps=3, learning_rate=0.2, first_order=first_order)
    theirs, aux = gradient_of(episodic(reference, cross_entropy), params, {})
    for objective in (
        episodic(ours, cross_entropy),
        multi_step(ours, cross_entropy, annealing_steps=0),
    ):
        gradient, own = gradient_of(objective, params, state)
        same(gradient, theirs)
        same(own.metrics, aux.metrics)


def test_maml_plus_plus_with_everything_off_averages_as_maml_does():
    ours = maml_plus_plus(scaled(), 3, steps=3, learned_rates=False, per_step_normalization=False)
    params, state = ours.init(KEY, FIRST)
    reference = maml(scaled(), 3, steps=3, learning_rate=0.1)
    theirs, aux = gradient_of(episodic(reference, cross_entropy, decay=0.5), params, jnp.zeros(4))
    objective = multi_step(ours, cross_entropy, decay=0.5, annealing_steps=0)
    gradient, own = gradient_of(objective, params, state)
    same(gradient, theirs)
    np.testing.assert_allclose(own.state.model[0], aux.state, rtol=1e-5)
    weighed = multi_step(ours, cross_entropy, decay=0.5, annealing_steps=5)
    _, own = gradient_of(weighed, params, state)
    np.testing.assert_allclose(own.state.model[0], aux.state, rtol=1e-5)


def test_derivative_order_rises_at_its_step():
    ours = maml_plus_plus(
        MODEL, 3, steps=2, learned_rates=False, per_step_normalization=False, first_order_until=7
    )
    params, state = ours.init(KEY, FIRST)
    objective = multi_step(ours, cross_entropy, annealing_steps=1)
    early, aux = gradient_of(objective, params, state._replace(outer_step=jnp.float32(6)))
    assert aux.state.outer_step == 7
    late, _ = gradient_of(objective, params, aux.state)
    apart = optax.tree.norm(optax.tree.sub(early, late)) / optax.tree.norm(late)
    assert apart > 1e-3


def test_derivative_order_that_nobody_counts_is_not_silent():
    ours = maml_plus_plus(MODEL, 3, steps=1, first_order_until=7)
    params, state = ours.init(KEY, FIRST)
    for objective, counted in (
        (multi_step(ours, cross_entropy, annealing_steps=0), True),
        (episodic(ours, cross_entropy), False),
    ):
        objective = jax.jit(objective)
        _, aux = objective(params, state, TASKS, KEYS)
        assert np.isfinite(aux.metrics["loss"])
        losses, aux = objective(params, aux.state, TASKS, KEYS)
        assert np.isfinite(losses).all() == counted
        assert np.isfinite(aux.state.outer_step) == counted


def test_multi_step_loss_is_the_weighted_sum_of_the_losses_after_each_step():
    ours = maml_plus_plus(MODEL, 3, steps=3, learning_rate=0.5)
    params, state = ours.init(KEY, FIRST)
    objective = jax.jit(multi_step(ours, cross_entropy, annealing_steps=4))

    @functools.cache
    def after(steps):
        reference = episodic(maml(MODEL, 3, steps=steps, learning_rate=0.5), cross_entropy)
        return jax.jit(reference)(params, {}, TASKS, KEYS)[0]

    for outer, share in ((0, 1.0), (1, 0.75), (4, 0.0), (9, 0.0)):
        weights = np.array([share, share, 3 - 2 * share]) / 3
        by_hand = sum(w * after(t) for w, t in zip(weights, (1, 2, 3), strict=True))
        state = state._replace(outer_step=jnp.float32(outer))
        losses, aux = objective(params, state, TASKS, KEYS)
        np.testing.assert_allclose(losses, by_hand, rtol=1e-4)
        np.testing.assert_allclose(aux.metrics["loss"], jnp.mean(after(3)), rtol=1e-4)


def test_rates_are_learned_for_each_step_and_leaf():
    ours = maml_plus_plus(MODEL, 3, steps=2)
    params, state = ours.init(KEY, FIRST)
    gradient, _ = gradient_of(multi_step(ours, cross_entropy, annealing_steps=1), params, state)
    assert {leaf.shape for leaf in jax.tree.leaves(gradient["hyper"])} == {(2,)}
    assert all((leaf != 0).all() for leaf in jax.tree.leaves(gradient["hyper"]))


def scaled():
    """A linear model whose inputs are centered, with a scale and averages of its own."""

    def init(key, x):
        params = {"kernel": jax.random.normal(key, (4, 3)), "scale": jnp.ones(4)}
        return params, jnp.zeros(4)

    def apply(params, state, x, mask=None, key=None, batch_statistics=True):
        used = jnp.mean(x, axis=0) if batch_statistics else state
        return ((x - used[None]) * params["scale"][None]) @ params["kernel"], used

    return Model(init, apply)


def test_each_step_has_scales_and_averages_of_its_own():
    ours = maml_plus_plus(scaled(), 3, steps=2)
    params, state = ours.init(KEY, FIRST)
    assert params["model"]["scale"].shape == (3, 4)
    assert params["model"]["kernel"].shape == (4, 3)
    assert state.model.shape == (3, 4)
    gradient, aux = gradient_of(
        multi_step(ours, cross_entropy, decay=0.5, annealing_steps=1), params, state
    )
    assert (jnp.linalg.norm(gradient["model"]["scale"], axis=1) > 1e-4).all()
    # All three rows saw the same query sets, as nothing before the normalization adapts.
    means = jnp.mean(TASKS.query.x, axis=(0, 1)) / 2
    np.testing.assert_allclose(aux.state.model, jnp.stack([means] * 3), rtol=1e-3, atol=1e-6)


def test_running_averages_of_a_step_serve_that_step_alone():
    params, state = maml_plus_plus(scaled(), 3, steps=2).init(KEY, FIRST)
    moved = state._replace(model=state.model.at[1].set(1.0))

    def answers(state, steps):
        learner = maml_plus_plus(scaled(), 3, steps=steps, normalization="running")
        adapted, _ = learner.adapt(params, state, FIRST.support, KEY)
        return learner.predict(params, state, adapted, FIRST.query.x)[0]

    np.testing.assert_array_equal(answers(moved, 0), answers(state, 0))
    assert np.abs(answers(moved, 1) - answers(state, 1)).max() > 0.01


def test_two_steps_by_hand_each_with_its_own_rates_scale_and_averages():
    ours = maml_plus_plus(scaled(), 3, steps=2, normalization="running")
    params, state = ours.init(KEY, FIRST)
    scales, averages = (
        jnp.outer(r, jnp.ones(4)) for r in (jnp.array([0.5, 1, 2]), jnp.arange(3.0))
    )
    rates = jnp.array([0.3, 0.7])
    hyper = jax.tree.map(lambda leaf: rates.astype(leaf.dtype), params["hyper"])
    model = {"kernel": params["model"]["kernel"], "scale": scales}
    support, query = FIRST

    def logits(kernel, step, x):
        return ((x - averages[step][None]) * scales[step][None]) @ kernel

    def loss(kernel, step):
        log_p = jax.nn.log_softmax(logits(kernel, step, support.x))
        return -jnp.mean(log_p[jnp.arange(len(support.y)), support.y])

    kernels = [model["kernel"]]
    for step in range(2):
        kernels.append(kernels[-1] - rates[step] * jax.grad(loss)(kernels[-1], step))
    state = state._replace(model=averages)
    params = {"model": model, "hyper": hyper}
    adapted, _ = ours.adapt(params, state, support, KEY)
    for fast, kernel in zip(adapted.path, kernels, strict=True):
        np.testing.assert_allclose(jax.tree.leaves(fast)[0], kernel, rtol=1e-4, atol=1e-6)
    answer, _ = ours.predict(params, state, adapted, query.x)
    np.testing.assert_allclose(answer, logits(kernels[2], 2, query.x), rtol=1e-4, atol=1e-5)


def test_more_steps_than_trained_go_on_with_the_last():
    ours = maml_plus_plus(MODEL, 3, steps=2)
    params, state = ours.init(KEY, FIRST)
    longer = maml_plus_plus(MODEL, 3, steps=4)
    adapted, _ = longer.adapt(params, state, FIRST.support, KEY)
    assert len(adapted.path) == 5
    assert np.isfinite(longer.predict(params, state, adapted, FIRST.query.x)[0]).all()


@pytest.mark.parametrize("tasks", [1, 4], ids=["serial", "batched"])
def test_reptile_moves_towards_the_mean_of_what_was_adapted(tasks):
    """Algorithms 1 and 2 written out, on the whole support set inside."""
    learner = reptile(MODEL, 3, steps=3, learning_rate=0.1, batch=None)
    params, state = learner.init(KEY, FIRST)
    objective = reptile_objective(learner, cross_entropy)
    rate, key = 0.3, jax.random.key(5)
    update = outer_loop(mean_gradient(objective), optax.sgd(rate), sample, tasks)
    after, metrics = update(start(optax.sgd(rate), params, state), (), key, 2)

    @jax.jit
    def adapt(phi, support):
        def loss(p):
            return cross_entropy(MODEL.apply(p, {}, support.x)[0], support.y, support.mask)

        for _ in range(3):
            phi = jax.tree.map(lambda p, g: p - 0.1 * g, phi, jax.grad(loss)(phi))
        return phi

    theta = params["model"]
    for step in range(2):
        keys = jax.random.split(jax.random.fold_in(key, step), (tasks, 2))
        adapted = [adapt(theta, sample((), k).support) for k in keys[:, 0]]
        mean = jax.tree.map(lambda *leaves: sum(leaves) / tasks, *adapted)
        theta = jax.tree.map(lambda t, m: t + rate * (m - t), theta, mean)
    same(after.params["model"], theta)
    assert np.isfinite(metrics["loss"]).all()


def test_each_step_draws_a_minibatch_of_its_own():
    """A loss that sums what it is shown tells what that was: of 6 examples, 3 steps of 2."""
    support = Batch(jnp.eye(6), jnp.zeros(6, jnp.int32), jnp.ones(6))
    model = from_functions(lambda key, x: jnp.zeros(6), lambda theta, x: (x @ theta)[:, None])
    learner = gradient_learner(
        model, unroll(sgd(1.0), 3), 1, loss=lambda z, y, mask: -jnp.sum(z), batch=2
    )
    params = {"model": jnp.zeros(6), "hyper": ()}
    shown = {
        tuple(learner.adapt(params, {}, support, jax.random.key(seed))[0].fast.tolist())
        for seed in range(8)
    }
    assert len(shown) > 4
    assert all(sum(times) == 6 for times in shown)
    # Had the steps of a task drawn the same two, these would have been shown three times.
    assert any(max(times) < 3 for times in shown)


def test_minibatches_are_different_examples_without_padding():
    support = Batch(jnp.arange(6.0)[:, None], jnp.arange(6), jnp.array([1, 1, 0, 1, 1, 0.0]))
    seen = set()
    for seed in range(20):
        drawn = draw(support, 3, jax.random.key(seed))
        chosen = drawn.y.tolist()
        assert len(set(chosen)) == 3
        assert drawn.mask.tolist() == [1, 1, 1]
        seen |= set(chosen)
    assert seen == {0, 1, 3, 4}
    assert draw(support, 9, KEY).mask.sum() == 4


def test_objectives_refuse_learners_they_are_not_for():
    weighed = functools.partial(multi_step, annealing_steps=1)
    for make, learner, message in (
        (reptile_objective, prototypical(MODEL, 3), "made by gradient_learner"),
        (weighed, anil(MODEL, 3), "give it a maml_plus_plus learner"),
    ):
        params, state = learner.init(KEY, FIRST)
        with pytest.raises(ValueError, match=message):
            make(learner, cross_entropy)(params, state, TASKS, KEYS)
    with pytest.raises(ValueError, match="annealing_steps is -1"):
        multi_step(maml_plus_plus(MODEL, 3), cross_entropy, annealing_steps=-1)
    with pytest.raises(ValueError, match="batch is 0"):
        reptile(MODEL, 3, batch=0)
