"""Attacks: where they start, how they descend, and what they do not depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta.learners import adversary, attacks, fine_tuning, on_new_network
from jaxmeta.learners.attacks import OPTIMIZERS, any_optimizer, check_parts, tuning
from tests.contracts import small, task

MODEL, TASK = small(8), task(0)
GRID = attacks(MODEL, ways=3, steps=3)
PARAMS, STATE = MODEL.init(jax.random.key(1), TASK.support.x)
KEY = jax.random.key(2)


def logits(learner, model=PARAMS, optimizer="momentum", rate=0.1):
    @jax.jit
    def run(model):
        params = {"model": model, "hyper": tuning(optimizer, rate)}
        adapted, _ = learner.adapt(params, STATE, TASK.support, KEY)
        return learner.predict(params, STATE, adapted, TASK.query.x, TASK.query.mask)[0]

    return np.asarray(run(model))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_program_descends_by_any_optimizer(name):
    gradient = {"w": jnp.array([0.3, -2.0])}
    own, any_one = OPTIMIZERS[name](0.1), any_optimizer(tuning(name, 0.1))
    states = [own.init(gradient), any_one.init(gradient)]
    for _ in range(3):
        found = []
        for place, optimizer in enumerate((own, any_one)):
            with jax.numpy_dtype_promotion("standard"):  # as inner_step does for optax
                updates, states[place] = optimizer.update(gradient, states[place], gradient)
            found.append(updates["w"])
        np.testing.assert_array_equal(*found)


def test_an_attack_from_class_means_is_fine_tuning():
    whole = fine_tuning(MODEL, 3, trained="all", steps=3, learning_rate=0.01)

    @jax.jit
    def run(model):
        adapted, _ = whole.adapt({"model": model}, STATE, TASK.support, KEY)
        params, query = {"model": model}, TASK.query
        return whole.predict(params, STATE, adapted, query.x, query.mask)[0]

    found = logits(GRID["means"], optimizer="adam", rate=0.01)
    np.testing.assert_allclose(found, run(PARAMS), rtol=1e-4, atol=1e-5)


def test_training_from_scratch_does_not_see_what_is_attacked():
    bound = on_new_network(GRID["zeros"])
    other = jax.tree.map(lambda leaf: 3 * leaf + 1, PARAMS)
    np.testing.assert_array_equal(logits(bound), logits(bound, other))
    assert np.abs(logits(GRID["zeros"]) - logits(GRID["zeros"], other)).max() > 1e-3


def test_rescaling_undoes_a_scale_and_resetting_the_last_parts():
    def kernels(change):
        return {name: {**part, "kernel": change(part["kernel"])} for name, part in PARAMS.items()}

    larger = kernels(lambda kernel: 100 * kernel)
    np.testing.assert_allclose(
        logits(GRID["rescaled"]), logits(GRID["rescaled"], larger), rtol=1e-3, atol=1e-4
    )
    assert np.abs(logits(GRID["means"]) - logits(GRID["means"], larger)).max() > 1e-2
    last = [*PARAMS][-1]
    spoiled = {**PARAMS, last: jax.tree.map(jnp.zeros_like, PARAMS[last])}
    np.testing.assert_array_equal(logits(GRID["reset_1"]), logits(GRID["reset_1"], spoiled))
    both = {name: jax.tree.map(jnp.zeros_like, part) for name, part in PARAMS.items()}
    np.testing.assert_array_equal(logits(GRID["reset_2"]), logits(GRID["reset_2"], both))
    assert np.abs(logits(GRID["reset_1"]) - logits(GRID["reset_1"], both)).max() > 1e-3


def test_the_path_ends_where_adaptation_does_and_frozen_features_stay():
    for name, attack in GRID.items():
        params = {"model": PARAMS, "hyper": tuning("sgd", 0.01)}
        shapes = jax.eval_shape(attack.path, params, STATE, TASK.support, KEY)[0]
        assert {leaf.shape[0] for leaf in jax.tree.leaves(shapes)} == {4}, name
    params = {"model": PARAMS, "hyper": tuning("sgd", 0.01)}
    adapted, _ = jax.eval_shape(GRID["frozen"].adapt, params, STATE, TASK.support, KEY)
    assert set(adapted.fast) == {"head"}


def test_batches_of_a_smaller_support_set_are_all_of_it():
    # Sixteen of nine examples are nine, in another order.
    np.testing.assert_allclose(
        logits(GRID["means, 16"]), logits(GRID["means"]), rtol=1e-3, atol=1e-4
    )


def test_an_unknown_optimizer_is_told():
    for make in (lambda: adversary(MODEL, 3, optimizer="adm"), lambda: tuning("adm", 0.1)):
        with pytest.raises(ValueError, match="optimizer is 'adm': choose one of sgd, momentum"):
            make()


def moved(attack, model=PARAMS, support=TASK.support, steps=1):
    """How far all leaves are moved by the first steps, at a rate of 1 and by gradient descent."""

    @jax.jit
    def run(model):
        params = {"model": model, "hyper": tuning("sgd", 1.0)}
        rows, _ = attack.path(params, STATE, support, KEY)
        return jax.tree.map(lambda leaf: leaf[steps] - leaf[0], rows.fast)

    return run(model)


LOUD = {**PARAMS, "head": {"kernel": 30 * PARAMS["head"]["kernel"]}}


MANY = jax.tree.map(
    lambda *leaves: jnp.concatenate(leaves), *(task(number).support for number in range(6))
)
WRONG = MANY._replace(y=jax.random.permutation(KEY, MANY.y))


def test_gradients_are_clipped_where_they_are_large():
    assert optax.tree.norm(moved(GRID["means"], LOUD, WRONG)) > 2
    np.testing.assert_allclose(optax.tree.norm(moved(GRID["clipped"], LOUD, WRONG)), 1, rtol=1e-4)
    start, end = (
        adversary(MODEL, 3, steps=steps, least_rate=1.0, most_rate=1.0).adapt(
            {"model": LOUD}, STATE, WRONG, KEY
        )[0]
        for steps in (0, 1)
    )
    apart = jax.tree.map(jnp.subtract, end.fast, start.fast)
    np.testing.assert_allclose(optax.tree.norm(apart), 1, rtol=1e-4)


def test_a_warmed_up_rate_begins_small():
    grid = attacks(MODEL, ways=3, steps=40)  # the rate rises over 4
    usual, warm = moved(grid["means"]), moved(grid["warmed_up"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a / 4, atol=1e-6), usual, warm)


def test_a_batch_is_a_part_of_a_larger_support_set():
    assert MANY.y.size > 30
    whole = moved(GRID["means"], support=MANY)["head"]["bias"]
    part = moved(GRID["means, 16"], support=MANY)["head"]["bias"]
    assert np.abs(whole - part).max() > 1e-3


def test_the_inductive_attack_predicts_each_query_on_its_own():
    def few(name):
        params = {"model": PARAMS, "hyper": tuning("sgd", 0.01)}
        adapted, _ = GRID[name].adapt(params, STATE, TASK.support, KEY)
        return [
            np.asarray(GRID[name].predict(params, STATE, adapted, TASK.query.x[:count])[0])[:2]
            for count in (2, 6)
        ]

    np.testing.assert_allclose(*few("inductive"), rtol=1e-4, atol=1e-5)
    assert np.abs(np.subtract(*few("means"))).max() > 1e-3


@pytest.mark.parametrize("attack", [GRID["means, 16"], on_new_network(GRID["zeros"])])
def test_the_last_row_of_the_path_is_what_adapt_gives(attack):
    @jax.jit
    def run(model):
        params = {"model": model, "hyper": tuning("momentum", 0.1)}
        last = jax.tree.map(lambda leaf: leaf[-1], attack.path(params, STATE, TASK.support, KEY)[0])
        adapted, _ = attack.adapt(params, STATE, TASK.support, KEY)
        return [
            attack.predict(params, STATE, each, TASK.query.x, TASK.query.mask)[0]
            for each in (last, adapted)
        ]

    np.testing.assert_allclose(*run(PARAMS), rtol=1e-4, atol=1e-5)


def test_parts_that_are_not_there_are_told():
    with pytest.raises(ValueError, match="parameters are 2 parts, of which the last 3 cannot"):
        adversary(MODEL, 3, reset=3).adapt({"model": PARAMS}, STATE, TASK.support, KEY)
    with pytest.raises(ValueError, match="parameters are list, of which the last 1 cannot"):
        check_parts([1, 2], 1)
