"""Blocking along an adversary's path, against closed forms and what it is without an adversary."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta.blocking_losses import entropy_deficit, uniform_divergence
from jaxmeta.data import array_source, beside_harmful
from jaxmeta.inner import drawn_rate, unroll
from jaxmeta.learners import (
    adversary,
    fixed_classifier,
    gradient_learner,
    nearest_mean,
    prototypical,
)
from jaxmeta.losses import accuracy, cross_entropy, squared_error
from jaxmeta.nn import from_functions, mlp
from jaxmeta.objectives import blocked, booster, episodic
from jaxmeta.types import Batch, Episode, Objective, Report

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(40, 5)).astype(np.float32), np.arange(40) % 4
SOURCE = beside_harmful(
    array_source(X, Y), array_source(X[::-1] + 1, Y), ways=3, shots=3, queries=2
)
TASK = SOURCE.batches(8)(SOURCE.data, jax.random.key(3))
MODEL, HEAD = mlp(6, hidden=(7,)), mlp(4, hidden=())
DESIRED = episodic(fixed_classifier(MODEL, HEAD, normalization="transductive"), cross_entropy)
PARAMS, STATE = DESIRED.init(jax.random.key(0), TASK["desired"])
KEY = jax.random.key(5)


def of(objective, params=PARAMS, task=TASK):
    """Loss, report and gradient."""

    @jax.jit
    def run(params):
        return jax.value_and_grad(objective.loss, has_aux=True)(params, STATE, task, KEY)

    (value, report), gradient = run(params)
    return value, report, gradient


def close(one, other, **given):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **given), one, other)


def test_without_weight_it_is_the_desired_objective_and_no_adversary_is_computed():
    objective = blocked(DESIRED, [adversary(MODEL, 3, steps=4)], weight=0)
    jax.tree.map(np.testing.assert_array_equal, of(objective), of(DESIRED, task=TASK["desired"]))
    given = jax.make_jaxpr(jax.grad(lambda p: objective.loss(p, STATE, TASK, KEY)[0]))(PARAMS)
    assert not [one for one in given.eqns if one.primitive.name in ("scan", "while")]


def test_without_steps_it_is_adversarial_censoring():
    censored = blocked(
        DESIRED, [adversary(MODEL, 3, steps=0)], weight=0.7, metrics={"accuracy": accuracy}
    )
    means = adversary(MODEL, 3, steps=0)

    def by_hand(params):
        harmful = TASK["harmful"]
        own = {"model": params["model"]}
        adapted, _ = means.adapt(own, {}, harmful.support, KEY)
        outputs, _ = means.predict(own, {}, adapted, harmful.query.x, harmful.query.mask)
        desired, _ = DESIRED.loss(params, STATE, TASK["desired"], KEY)
        return desired + 0.7 * entropy_deficit(outputs, harmful.query.y, harmful.query.mask)

    value, report, gradient = of(censored)
    expected, expected_gradient = jax.value_and_grad(by_hand)(PARAMS)
    close((value, gradient), (expected, expected_gradient), rtol=1e-5, atol=1e-6)
    assert set(report.metrics) == {"loss", "blocking", "harmful_accuracy"}
    assert report.metrics["harmful_accuracy"] * 6 % 1 == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("first_order", [False, True])
def test_its_gradient_on_a_quadratic_is_the_mean_over_steps(first_order):
    # (theta - a)^2 has the curvature 2.
    rate, steps, a, theta = 0.1, 4, 1.0, 3.0
    model = from_functions(
        lambda key, x: {"w": jnp.float32(theta)}, lambda params, x: params["w"] + 0 * x
    )
    learner = gradient_learner(
        model, unroll(optax.sgd(rate), steps, first_order=first_order), loss=squared_error
    )
    batch = Batch(jnp.zeros((2, 1)), jnp.full((2, 1), a), jnp.ones(2))
    nothing = Objective(
        lambda key, task: ({"model": {"w": jnp.float32(theta)}}, ()),
        lambda params, state, task, key: (jnp.zeros(()), Report()),
    )
    no_accuracy = blocked(nothing, [learner], blocking=squared_error, weight=0.5)
    task = {"desired": (), "harmful": Episode(batch, batch)}
    params, state = no_accuracy.init(jax.random.key(0), task)
    gradient = jax.grad(lambda p: no_accuracy.loss(p, state, task, KEY)[0])(params)
    shrink = (1 - 2 * rate) ** np.arange(steps + 1)
    each = 2 * (theta - a) * (shrink if first_order else shrink**2)
    np.testing.assert_allclose(gradient["model"]["w"], 0.5 * each.mean(), rtol=1e-5)


def test_several_adversaries_have_the_mean_of_their_losses():
    kept = {"blocking": uniform_divergence, "weight": 2.0}
    one = nearest_mean(MODEL, 3)
    with pytest.raises(ValueError, match="does not say its path"):
        blocked(DESIRED, [one])
    with pytest.raises(ValueError, match="0 adversaries: give at least one"):
        blocked(DESIRED, [])
    with pytest.raises(ValueError, match=r"adversaries is one learner: give a list"):
        blocked(DESIRED, one)
    for weight in (-1, float("nan"), "1"):
        with pytest.raises(ValueError, match=r"weight is .*: give a finite number, 0 or more"):
            blocked(DESIRED, [adversary(MODEL, 3)], weight=weight)
        with pytest.raises(ValueError, match=r"weight is .*: give a finite number, 0 or more"):
            booster(DESIRED, one, weight=weight)
    # Adversaries that need no key, so that alone and together are alike.
    each = [
        adversary(MODEL, 3, steps=steps, least_rate=rate, most_rate=rate)
        for steps, rate in ((2, 0.1), (3, 0.3))
    ]
    values = [of(blocked(DESIRED, [learner], **kept))[0] for learner in each]
    together = of(blocked(DESIRED, each, **kept))[0]
    np.testing.assert_allclose(together, np.mean(values), rtol=1e-5)


def test_a_rate_is_drawn_for_each_task_evenly_on_a_logarithmic_scale():
    loop = drawn_rate(optax.sgd, 1, 1e-3, 1e-1)
    keys = jax.random.split(jax.random.key(0), 500)
    after = jax.vmap(
        lambda key: loop.run(lambda theta, key: theta**2 / 2, jnp.float32(1.0), (), key)[0]
    )(keys)
    drawn = np.log10(1 - np.asarray(after))
    assert drawn.min() >= -3.001
    assert drawn.max() <= -0.999
    np.testing.assert_allclose([drawn.mean(), drawn.std()], [-2, 2 / 12**0.5], atol=0.08)
    with pytest.raises(ValueError, match="give a function of a rate"):
        drawn_rate(optax.sgd(0.1), 1, 0.1, 1)
    with pytest.raises(ValueError, match=r"least is 1 and most 0\.1: give the smaller rate first"):
        drawn_rate(optax.sgd, 1, 1, 0.1)


def test_booster_has_the_gradient_of_its_paper():
    learner, step, weight = prototypical(MODEL, 3), 0.3, 0.4
    harmful = episodic(learner, cross_entropy)

    def harm(model):
        return harmful.loss({"model": model}, {}, TASK["harmful"], KEY)[0]

    before = jax.grad(harm)(PARAMS["model"])
    length = optax.tree.norm(before)
    moved = jax.tree.map(lambda p, g: p - step * g / length, PARAMS["model"], before)
    after = jax.grad(harm)(moved)
    value, report, gradient = of(booster(DESIRED, learner, step=step, weight=weight))
    desired, _, own = of(DESIRED, task=TASK["desired"])
    expected = jax.tree.map(lambda g, b, a: g + weight * (b - a), own["model"], before, after)
    close(gradient["model"], expected, rtol=1e-4, atol=1e-6)
    gained = harm(PARAMS["model"]) - harm(moved)
    np.testing.assert_allclose(report.metrics["booster"], gained, rtol=1e-4)
    np.testing.assert_allclose(value, desired + weight * gained, rtol=1e-5)
