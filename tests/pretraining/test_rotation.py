"""Rotation, alone and beside another loss."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta import pretraining
from jaxmeta.data import array_source
from jaxmeta.learners import prototypical
from jaxmeta.losses import cross_entropy
from jaxmeta.objectives import added, episodic
from jaxmeta.pretraining.rotation import turned
from jaxmeta.train import init_train_state, outer_loop
from jaxmeta.types import Batch
from tests.objective_contracts import normalized_mlp

KEY = jax.random.key(0)
ENCODER = normalized_mlp(6)
IMAGES = np.random.default_rng(0).normal(size=(12, 3, 3, 2)).astype(np.float32)
SOURCE = array_source(IMAGES, np.arange(12) % 3)
BATCH = SOURCE.batches(5)(SOURCE.data, KEY)
EPISODE = SOURCE.episodes(2, 1, 2)(SOURCE.data, KEY)
ROTATION = pretraining.rotation(ENCODER)
FEW_SHOT = episodic(prototypical(ENCODER, ways=2), cross_entropy)


def test_every_image_is_seen_in_all_quarter_turns():
    x, y, mask = turned(BATCH._replace(mask=jnp.array([1.0, 1.0, 1.0, 1.0, 0.0])))
    for turn in range(4):
        place = slice(5 * turn, 5 * turn + 5)
        np.testing.assert_array_equal(x[place], np.rot90(BATCH.x, turn, axes=(1, 2)))
        assert y[place].tolist() == [turn] * 5
        assert mask[place].tolist() == [1, 1, 1, 1, 0]


def test_of_an_episode_it_sees_support_and_queries():
    both = jnp.concatenate([EPISODE.support.x, EPISODE.query.x])
    np.testing.assert_array_equal(turned(EPISODE).x[: len(both)], both)
    batch = Batch(both, jnp.zeros(len(both), jnp.int32), jnp.ones(len(both)))
    params, state = ROTATION.init(KEY, EPISODE)
    one, other = (ROTATION.loss(params, state, task, KEY) for task in (EPISODE, batch))
    np.testing.assert_allclose(one[0], other[0], rtol=1e-6)


def test_labels_are_not_looked_at():
    params, state = ROTATION.init(KEY, BATCH)
    other = BATCH._replace(y=BATCH.y + 1)
    one, two = (ROTATION.loss(params, state, task, KEY)[0] for task in (BATCH, other))
    np.testing.assert_array_equal(one, two)


def test_a_head_that_knows_nothing_is_at_the_logarithm_of_four():
    params, state = ROTATION.init(KEY, BATCH)
    params["rotation"] = jax.tree.map(jnp.zeros_like, params["rotation"])
    np.testing.assert_allclose(ROTATION.loss(params, state, BATCH, KEY)[0], np.log(4), rtol=1e-6)


def test_images_turned_beforehand_have_the_same_loss_but_for_the_order_of_the_answers():
    params, state = ROTATION.init(KEY, BATCH)
    before = BATCH._replace(x=jnp.rot90(BATCH.x, 1, axes=(1, 2)))
    # What was turned by r is now turned by r + 1: the head's columns move on by one.
    moved = {**params, "rotation": jax.tree.map(lambda w: jnp.roll(w, 1, -1), params["rotation"])}
    one = ROTATION.loss(params, state, before, KEY)[0]
    other = ROTATION.loss(moved, state, BATCH, KEY)[0]
    assert abs(one - ROTATION.loss(params, state, BATCH, KEY)[0]) > 1e-3
    np.testing.assert_allclose(one, other, rtol=1e-5)


def test_a_sum_has_the_losses_and_gradients_of_its_parts():
    objective = added({"few_shot": FEW_SHOT, "rotation": ROTATION}, {"rotation": 0.3})
    params, state = objective.init(KEY, EPISODE)
    (value, report), gradient = jax.value_and_grad(objective.loss, has_aux=True)(
        params, state, EPISODE, KEY
    )
    parts = {}
    for name, part in {"few_shot": FEW_SHOT, "rotation": ROTATION}.items():
        grad = jax.value_and_grad(part.loss, has_aux=True)
        parts[name] = grad(params, state[name], EPISODE, KEY)
    np.testing.assert_allclose(value, parts["few_shot"][0][0] + 0.3 * parts["rotation"][0][0])
    expected = jax.tree.map(lambda a, b: a + 0.3 * b, parts["few_shot"][1], parts["rotation"][1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), gradient, expected)
    np.testing.assert_allclose(report.metrics["rotation_loss"], parts["rotation"][0][0])
    assert {"few_shot_loss", "rotation_accuracy"} <= report.metrics.keys()
    # Turned images do not move the averages of the others.
    moved = objective.update(state, params, report.statistics)
    alone = FEW_SHOT.update(state["few_shot"], params, parts["few_shot"][0][1].statistics)
    jax.tree.map(np.testing.assert_array_equal, moved["few_shot"], alone)


def test_a_sum_of_what_carries_nothing_is_trained():
    objective, optimizer = added({"rotation": ROTATION}), optax.sgd(0.1)
    update = outer_loop(objective, optimizer, SOURCE.batches(5), meta_batch=2)
    before = init_train_state(optimizer, *objective.init(KEY, BATCH))
    alone = outer_loop(ROTATION, optimizer, SOURCE.batches(5), meta_batch=2)
    own = init_train_state(optimizer, before.params, before.state["rotation"])
    _, expected = alone(jax.tree.map(jnp.copy, own), SOURCE.data, KEY, 2)
    _, metrics = update(before, SOURCE.data, KEY, 2)
    np.testing.assert_allclose(metrics["loss"], expected["loss"], rtol=1e-6)


def test_parameters_are_shared_by_name():
    objective = added({"few_shot": FEW_SHOT, "rotation": ROTATION})
    params, _ = objective.init(KEY, EPISODE)
    assert params.keys() == {"model", "head", "rotation"}
    with pytest.raises(ValueError, match=r"parameters 'model' of the objective 'rotation' are"):
        added({"few_shot": FEW_SHOT, "rotation": pretraining.rotation(normalized_mlp(7))}).init(
            KEY, EPISODE
        )


def test_bad_arguments():
    with pytest.raises(ValueError, match="added got 0 objectives: give at least one"):
        added({})
    with pytest.raises(ValueError, match="weights names 'turn', and the objectives are rotation"):
        added({"rotation": ROTATION}, {"turn": 1.0})
    with pytest.raises(ValueError, match="the task is a int without any: draw it by"):
        ROTATION.init(KEY, 3)
    wide = BATCH._replace(x=BATCH.x[:, :2])
    with pytest.raises(ValueError, match=r"shape \(5, 2, 3, 2\): give square images"):
        ROTATION.init(KEY, wide)
