"""Training examples that are changed at random: the change, and an Objective over changed tasks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.data import crop_and_mirror
from jaxmeta.gradients import estimate
from jaxmeta.learners import prototypical
from jaxmeta.losses import cross_entropy
from jaxmeta.nn import mlp
from jaxmeta.objectives import augmented, episodic
from jaxmeta.pretraining import supervised
from jaxmeta.types import Batch, Episode, Objective, Report

KEY = jax.random.key(0)
IMAGE = jax.random.uniform(KEY, (5, 7, 2), minval=0.1)


def windows(image, padding):
    """Every window of an image padded with zeros, plain and mirrored, by its offset."""
    around = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    rows, columns = image.shape[:2]
    cut = {
        (r, c): around[r : r + rows, c : c + columns]
        for r in range(2 * padding + 1)
        for c in range(2 * padding + 1)
    }
    mirrored = {(*at, "mirrored"): window[:, ::-1] for at, window in cut.items()}
    return cut | mirrored


def test_every_window_and_its_mirror_image_is_drawn_alike_often():
    count, expected = 3_600, windows(np.asarray(IMAGE), 1)
    keys = jax.random.split(KEY, count)
    made = np.asarray(jax.vmap(crop_and_mirror(1), (0, None))(keys, IMAGE))
    seen = {at: np.sum(np.all(made == w, axis=(1, 2, 3))) for at, w in expected.items()}
    assert sum(seen.values()) == count  # nothing else is
    mean = count / len(expected)
    assert max(abs(n - mean) for n in seen.values()) < 5 * np.sqrt(mean)


def test_without_padding_it_only_mirrors():
    keys = jax.random.split(KEY, 20)
    made = np.asarray(jax.vmap(crop_and_mirror(0), (0, None))(keys, IMAGE))
    mirrored = np.all(made == np.asarray(IMAGE)[:, ::-1], axis=(1, 2, 3))
    plain = np.all(made == np.asarray(IMAGE), axis=(1, 2, 3))
    assert np.all(mirrored ^ plain)
    assert 0 < mirrored.sum() < 20


def test_bad_arguments_of_crop_and_mirror():
    with pytest.raises(ValueError, match="padding is -1: give a whole number"):
        crop_and_mirror(-1)
    with pytest.raises(ValueError, match=r"shape \(3,\); give images"):
        crop_and_mirror(1)(KEY, jnp.ones(3))
    with pytest.raises(ValueError, match=r"shape {'left': \(3, 3, 1\)}; give images"):
        crop_and_mirror(1)(KEY, {"left": jnp.ones((3, 3, 1))})


def draw(key):
    def batch(key, shots):
        y = jnp.repeat(jnp.arange(2), shots)
        return Batch(jax.random.normal(key, (2 * shots, 4)), y, jnp.ones(2 * shots))

    support_key, query_key = jax.random.split(key)
    return Episode(batch(support_key, 2), batch(query_key, 3))


LEARNER = prototypical(mlp(3, hidden=(5,)), ways=2, normalization="inductive")
OBJECTIVE = episodic(LEARNER, cross_entropy)
EPISODE = draw(KEY)
PARAMS, STATE = LEARNER.init(KEY, EPISODE)


def noisy(key, x):
    return x + jax.random.normal(key, x.shape)


def look(params, state, task, key):
    """An objective's loss that reports the task and the key that it is handed."""
    return jnp.zeros(()), Report(statistics=(task, key))


def seen(augment, task, key=KEY):
    objective = augmented(Objective(lambda key, task: ((), ()), look), augment)
    return objective.loss((), (), task, key)[1].statistics


def test_no_change_changes_nothing_but_the_key():
    task, key = seen(lambda key, x: x, EPISODE)
    jax.tree.map(np.testing.assert_array_equal, task, EPISODE)
    assert key != KEY


def test_it_is_the_objective_of_the_changed_task():
    """A change that is a function of the example alone can be made beforehand."""

    def double(key, x):
        return 2 * x + 1

    support, query = (batch._replace(x=2 * batch.x + 1) for batch in EPISODE)
    loss, report = augmented(OBJECTIVE, double).loss(PARAMS, STATE, EPISODE, KEY)
    expected = OBJECTIVE.loss(PARAMS, STATE, Episode(support, query), KEY)
    np.testing.assert_allclose(loss, expected[0], rtol=1e-6)
    assert report.metrics.keys() == expected[1].metrics.keys()
    kept = augmented(OBJECTIVE, double)._replace(loss=OBJECTIVE.loss)
    assert kept == OBJECTIVE


def test_every_example_is_changed_by_itself():
    """Equal examples of one task, in whichever batch, no longer are."""
    alike = jax.tree.map(jnp.zeros_like, EPISODE)
    (support, query), key = seen(noisy, alike)
    examples = np.concatenate([support.x, query.x])
    assert len(np.unique(examples, axis=0)) == len(examples) == 4 + 6
    # Labels, masks and what else the task holds stay as they are.
    jax.tree.map(
        np.testing.assert_array_equal,
        Episode(*(b._replace(x=()) for b in (support, query))),
        Episode(*(b._replace(x=()) for b in alike)),
    )
    # What the key was split for is not drawn from it again.
    assert key not in (KEY, *jax.random.split(KEY, 2))


def test_the_batches_of_any_task_are_changed_and_nothing_else():
    views = {"first": EPISODE.support, "second": (EPISODE.query, jnp.arange(3.0))}
    task, _ = seen(lambda key, x: -x, views)
    np.testing.assert_array_equal(task["first"].x, -EPISODE.support.x)
    np.testing.assert_array_equal(task["second"][0].x, -EPISODE.query.x)
    np.testing.assert_array_equal(task["second"][1], jnp.arange(3.0))


def test_a_task_is_changed_by_its_own_key():
    """So the tasks of a step can be cut into chunks, and a key means the same change."""
    objective = augmented(OBJECTIVE, noisy)
    keys = jax.random.split(jax.random.key(1), 3)
    episodes = jax.vmap(draw)(keys)
    whole, chunks = (
        jax.jit(estimate(objective, chunk=chunk))(PARAMS, STATE, episodes, keys) for chunk in (3, 1)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), whole, chunks)
    one, again, other = (
        objective.loss(PARAMS, STATE, EPISODE, key)[0] for key in (keys[0], keys[0], keys[1])
    )
    assert one == again != other


def test_a_batch_of_ordinary_training_is_changed_as_well():
    objective = supervised(mlp(3), classes=2)
    params, state = objective.init(KEY, EPISODE.query)
    loss, _ = augmented(objective, lambda key, x: 3 * x).loss(params, state, EPISODE.query, KEY)
    beforehand = EPISODE.query._replace(x=3 * EPISODE.query.x)
    np.testing.assert_allclose(loss, objective.loss(params, state, beforehand, KEY)[0], rtol=1e-6)


def test_examples_may_be_of_several_arrays():
    paired = EPISODE.support._replace(x={"a": EPISODE.support.x, "b": -EPISODE.support.x})
    changed, _ = seen(lambda key, x: {"a": x["a"] + 1, "b": 2 * x["b"]}, paired)
    np.testing.assert_array_equal(changed.x["a"], EPISODE.support.x + 1)
    np.testing.assert_array_equal(changed.x["b"], -2 * EPISODE.support.x)


CHANGES = {
    "shape": lambda key, x: x[:2],
    "type": lambda key, x: x.astype(jnp.bfloat16),
    "structure": lambda key, x: (x,),
    "nothing": lambda key, x: None,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_is_not_the_like_of_the_example_is_refused(change):
    with pytest.raises(ValueError, match=r"of an example float32\[4\]: give one that keeps"):
        augmented(OBJECTIVE, change).loss(PARAMS, STATE, EPISODE, KEY)
