"""The methods that differentiate an inner loop, each against MAML or its own definition."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta.gradients import estimate
from jaxmeta.inner import sgd, unroll
from jaxmeta.keys import task_keys
from jaxmeta.learners import (
    anil,
    fine_tuning,
    gradient_learner,
    imaml,
    maml,
    maml_plus_plus,
    meta_sgd,
    proto_maml,
    prototypical,
    reptile,
)
from jaxmeta.learners.frames.gradient import draw_minibatch
from jaxmeta.losses import accuracy, cross_entropy
from jaxmeta.nn import from_functions, mlp
from jaxmeta.objectives import along, episodic, multi_step
from jaxmeta.objectives import reptile as reptile_objective
from jaxmeta.train import init_train_state, outer_loop
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
    return jax.jit(estimate(objective))(params, state, TASKS, KEYS)


def losses(objective, params, state):
    """The loss of each task, and the mean of what they report."""
    values, reports = jax.vmap(objective.loss, (None, None, 0, 0))(params, state, TASKS, KEYS)
    return values, jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), reports)


def losses_of(objective):
    return jax.jit(functools.partial(losses, objective))


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


@pytest.mark.parametrize("first_order", [False, True])
def test_maml_plus_plus_with_everything_off_is_maml(first_order):
    ours = maml_plus_plus(
        MODEL,
        3,
        steps=3,
        learning_rate=0.2,
        learned_rates=False,
        per_step_normalization=False,
        first_order=first_order,
    )
    params, state = ours.init(KEY, FIRST)
    reference = maml(MODEL, 3, steps=3, learning_rate=0.2, first_order=first_order)
    theirs, report = gradient_of(episodic(reference, cross_entropy), params, {})
    for objective in (
        episodic(ours, cross_entropy),
        multi_step(ours, cross_entropy, annealing_steps=0),
    ):
        gradient, own = gradient_of(objective, params, state)
        same(gradient, theirs)
        same(own.metrics, report.metrics)


def test_maml_plus_plus_with_everything_off_averages_as_maml_does():
    ours = maml_plus_plus(scaled(), 3, steps=3, learned_rates=False, per_step_normalization=False)
    params, state = ours.init(KEY, FIRST)
    reference = episodic(maml(scaled(), 3, steps=3, learning_rate=0.1), cross_entropy, decay=0.5)
    theirs, report = gradient_of(reference, params, jnp.zeros(4))
    average = reference.update(jnp.zeros(4), params, report.statistics)
    objective = multi_step(ours, cross_entropy, decay=0.5, annealing_steps=0)
    gradient, own = gradient_of(objective, params, state)
    same(gradient, theirs)
    weighed = multi_step(ours, cross_entropy, decay=0.5, annealing_steps=5)
    for statistics in (own.statistics, losses_of(weighed)(params, state)[1].statistics):
        updated = objective.update(state, params, statistics)
        np.testing.assert_allclose(updated.model[0], average, rtol=1e-5)


def test_derivative_order_rises_at_its_step():
    make = functools.partial(
        maml_plus_plus, MODEL, 3, steps=2, learned_rates=False, per_step_normalization=False
    )
    ours, early = make(), make(first_order=True)
    params, state = ours.init(KEY, FIRST)
    gradient = jax.jit(
        estimate(multi_step(ours, cross_entropy, annealing_steps=1, early=early, early_steps=7))
    )

    def at(outer_step):
        return gradient(params, state._replace(outer_step=jnp.int32(outer_step)), TASKS, KEYS)[0]

    first, second = (
        gradient_of(multi_step(learner, cross_entropy, annealing_steps=0), params, state)[0]
        for learner in (early, ours)
    )
    same(at(6), first)
    same(at(7), second)
    assert optax.tree.norm(optax.tree.sub(first, second)) > 1e-3 * optax.tree.norm(second)


def test_outer_steps_are_counted_exactly_by_the_objective_alone():
    """An int32 that grows by one a step, which neither the learner nor averaging touches."""
    ours = maml_plus_plus(MODEL, 3, steps=1)
    params, state = ours.init(KEY, FIRST)
    many = state._replace(outer_step=jnp.int32(2**24 + 1))  # which no float32 holds
    counted = multi_step(ours, cross_entropy, annealing_steps=5)
    left_alone = episodic(ours, cross_entropy)
    for objective, expected in ((counted, 2**24 + 2), (left_alone, 2**24 + 1)):
        _, report = losses_of(objective)(params, many)
        after = objective.update(many, params, report.statistics).outer_step
        assert after == expected
        assert after.dtype == jnp.int32


def test_multi_step_loss_is_the_weighted_sum_of_the_losses_after_each_step():
    ours = maml_plus_plus(MODEL, 3, steps=3, learning_rate=0.5)
    params, state = ours.init(KEY, FIRST)
    objective = losses_of(multi_step(ours, cross_entropy, annealing_steps=4))

    @functools.cache
    def after(steps):
        reference = episodic(maml(MODEL, 3, steps=steps, learning_rate=0.5), cross_entropy)
        return losses_of(reference)(params, {})[0]

    for outer, share in ((0, 1.0), (1, 0.75), (4, 0.0), (9, 0.0)):
        weights = np.array([share, share, 3 - 2 * share]) / 3
        by_hand = sum(w * after(t) for w, t in zip(weights, (1, 2, 3), strict=True))
        losses, report = objective(params, state._replace(outer_step=jnp.int32(outer)))
        np.testing.assert_allclose(losses, by_hand, rtol=1e-4)
        np.testing.assert_allclose(report.metrics["loss"], jnp.mean(after(3)), rtol=1e-4)


def test_along_is_the_weighted_sum_of_the_losses_after_0_to_t_steps():
    """Value and gradient are those of learners that stop earlier."""
    weights = jnp.array([0.5, -1.0, 2.0])

    def reference(steps):
        return episodic(maml(MODEL, 3, steps=steps, learning_rate=0.5), cross_entropy)

    def weighted(params):
        return sum(w * losses(reference(t), params, state)[0] for t, w in enumerate(weights))

    def along_it(params):
        return losses(objective, params, state)

    learner = maml(MODEL, 3, steps=2, learning_rate=0.5)
    objective = along(learner, cross_entropy, lambda state, steps: weights, {"hits": accuracy})
    params, state = learner.init(KEY, FIRST)
    (values, report), gradient, by_hand, gradient_by_hand = jax.jit(
        lambda p: (along_it(p), jax.jacrev(along_it)(p)[0], weighted(p), jax.jacrev(weighted)(p))
    )(params)
    same(values, by_hand)
    same(gradient, gradient_by_hand)
    # What is reported is of the adaptation and of the last step.
    assert report.metrics["support_loss"].shape == (2,)
    assert report.metrics["hits"].shape == ()
    last = losses_of(reference(2))(params, state)[1]
    np.testing.assert_allclose(report.metrics["loss"], last.metrics["loss"], rtol=1e-5)


def test_along_averages_the_statistics_after_the_last_step():
    learner = maml(scaled(), 3, steps=2)
    params, state = learner.init(KEY, FIRST)
    objective = along(learner, cross_entropy, lambda state, steps: state[:3], decay=0.5)
    _, report = losses_of(objective)(params, state)
    assert report.statistics.shape == (3, 4)
    after = objective.update(state, params, report.statistics)
    np.testing.assert_allclose(after, jnp.mean(TASKS.query.x, axis=(0, 1)) / 2, rtol=1e-5)


def test_a_learner_without_a_path_has_nothing_to_go_along():
    for learner in (prototypical(MODEL, 3), imaml(MODEL, 3)):
        with pytest.raises(ValueError, match=r"path.*take the objective `episodic`"):
            along(learner, cross_entropy, lambda state, steps: jnp.ones(steps + 1))


def test_along_wants_a_weight_for_each_loss():
    learner, task = maml(MODEL, 3, steps=2), jax.tree.map(lambda leaf: leaf[0], TASKS)
    params, state = learner.init(KEY, task)
    for shape in ((), (1,), (2,), (3, 1)):
        objective = along(learner, cross_entropy, lambda state, steps, shape=shape: jnp.ones(shape))
        with pytest.raises(ValueError, match=rf"shape {re.escape(str(shape))}.* each of 3 losses"):
            objective.loss(params, state, task, KEY)


PATHS = {
    "maml": lambda steps: maml(MODEL, 3, steps=steps, learning_rate=0.3),
    "inductive": lambda steps: maml(scaled(), 3, steps=steps, normalization="inductive"),
    "first order, in minibatches": lambda steps: reptile(MODEL, 3, steps=steps, batch=2),
    "momentum": lambda steps: gradient_learner(
        MODEL, unroll(optax.sgd(0.1, momentum=0.9), steps), 3
    ),
    "meta_sgd": lambda steps: meta_sgd(MODEL, 3, steps=steps),
    "maml_plus_plus": lambda steps: maml_plus_plus(
        scaled(), 3, steps=steps, normalization="inductive"
    ),
    "anil": lambda steps: anil(MODEL, 3, steps=steps),
    "proto_maml": lambda steps: proto_maml(MODEL, 3, steps=steps, learning_rate=0.1),
    "fine_tuning": lambda steps: fine_tuning(MODEL, 3, steps=steps, head="cosine"),
}


@pytest.mark.parametrize("make", PATHS.values(), ids=PATHS)
def test_row_t_of_the_path_is_what_adapt_gives_after_t_steps(make):
    longest = make(2)
    params, state = longest.init(KEY, FIRST)

    def answer(learner, adapted):
        return learner.predict(params, state, adapted, FIRST.query.x)[0]

    @jax.jit
    def both():
        path, path_metrics = longest.path(params, state, FIRST.support, KEY)
        rows = [jax.tree.map(lambda leaf, t=t: leaf[t], path) for t in range(3)]
        alone = [make(t).adapt(params, state, FIRST.support, KEY) for t in range(3)]
        answers = (
            [answer(longest, row) for row in rows],
            [answer(make(t), adapted) for t, (adapted, _) in enumerate(alone)],
        )
        return rows, [adapted for adapted, _ in alone], answers, path_metrics, alone[2][1]

    rows, alone, answers, path_metrics, metrics = both()
    same(rows, alone)
    same(*answers)
    same(path_metrics, metrics)
    assert np.abs(answers[0][2] - answers[0][0]).max() > 1e-3


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
    objective = multi_step(ours, cross_entropy, decay=0.5, annealing_steps=1)
    gradient, report = gradient_of(objective, params, state)
    after = objective.update(state, params, report.statistics)
    assert (jnp.linalg.norm(gradient["model"]["scale"], axis=1) > 1e-4).all()
    # All three rows saw the same query sets, as nothing before the normalization adapts.
    means = jnp.mean(TASKS.query.x, axis=(0, 1)) / 2
    np.testing.assert_allclose(after.model, jnp.stack([means] * 3), rtol=1e-3, atol=1e-6)


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
    path, _ = ours.path(params, state, support, KEY)
    same(path.fast["kernel"], jnp.stack(kernels))
    adapted, _ = ours.adapt(params, state, support, KEY)
    answer, _ = ours.predict(params, state, adapted, query.x)
    np.testing.assert_allclose(answer, logits(kernels[2], 2, query.x), rtol=1e-4, atol=1e-5)


def test_more_steps_than_trained_go_on_with_the_last():
    ours = maml_plus_plus(MODEL, 3, steps=2)
    params, state = ours.init(KEY, FIRST)
    longer = maml_plus_plus(MODEL, 3, steps=4)
    last = jax.tree.map(lambda rates: jnp.repeat(rates[-1:], 2, axis=0), params["hyper"])
    rates = jax.tree.map(lambda *rows: jnp.concatenate(rows), params["hyper"], last)
    told = {**params, "hyper": rates}
    (adapted, _), (expected, _) = (
        longer.adapt(given, state, FIRST.support, KEY) for given in (params, told)
    )
    same(adapted, expected)
    assert np.isfinite(longer.predict(params, state, adapted, FIRST.query.x)[0]).all()


@pytest.mark.parametrize("tasks", [1, 4], ids=["serial", "batched"])
def test_reptile_moves_towards_the_mean_of_what_was_adapted(tasks):
    """Algorithms 1 and 2 written out, on the whole support set inside."""
    learner = reptile(MODEL, 3, steps=3, learning_rate=0.1, batch=None)
    params, state = learner.init(KEY, FIRST)
    objective = reptile_objective(learner, cross_entropy)
    rate, key = 0.3, jax.random.key(5)
    update = outer_loop(objective, optax.sgd(rate), sample, tasks)
    after, metrics = update(init_train_state(optax.sgd(rate), params, state), (), key, 2)

    @jax.jit
    def adapt(phi, support):
        def loss(p):
            return cross_entropy(MODEL.apply(p, {}, support.x)[0], support.y, support.mask)

        for _ in range(3):
            phi = jax.tree.map(lambda p, g: p - 0.1 * g, phi, jax.grad(loss)(phi))
        return phi

    theta = params["model"]
    for step in range(2):
        drawn = task_keys(key, step, tasks).sample
        adapted = [adapt(theta, sample((), k).support) for k in drawn]
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
        drawn = draw_minibatch(support, 3, jax.random.key(seed))
        chosen = drawn.y.tolist()
        assert len(set(chosen)) == 3
        assert drawn.mask.tolist() == [1, 1, 1]
        seen |= set(chosen)
    assert seen == {0, 1, 3, 4}
    assert draw_minibatch(support, 9, KEY).mask.sum() == 4


def test_objectives_refuse_learners_they_are_not_for():
    weighed = functools.partial(multi_step, annealing_steps=1)
    for make, learner, message in (
        (reptile_objective, prototypical(MODEL, 3), "made by gradient_learner"),
        (weighed, maml(MODEL, 3), "give it a maml_plus_plus learner"),
    ):
        params, state = learner.init(KEY, FIRST)
        with pytest.raises(ValueError, match=message):
            make(learner, cross_entropy).loss(params, state, FIRST, KEY)
    with pytest.raises(ValueError, match=r"early_steps is 2.*: give `early`"):
        multi_step(maml_plus_plus(MODEL, 3), cross_entropy, annealing_steps=0, early_steps=2)
    with pytest.raises(ValueError, match="batch is 0"):
        reptile(MODEL, 3, batch=0)
