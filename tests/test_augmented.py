"""Training examples that are changed at random: the change, and an Objective over changed tasks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.data import crop_and_mirror
from jaxmeta.gradients import mean_gradient
from jaxmeta.learners import prototypical
from jaxmeta.losses import cross_entropy
from jaxmeta.nn import mlp
from jaxmeta.objectives import augmented, episodic
from jaxmeta.types import Batch, Episode

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
    with pytest.raises(ValueError, match=r"one example of shape \(3,\): give images"):
        crop_and_mirror(1)(KEY, jnp.ones(3))
    with pytest.raises(ValueError, match=r"of shape {'left': \(3, 3, 1\)}: give images"):
        crop_and_mirror(1)(KEY, {"left": jnp.ones((3, 3, 1))})


def episodes(tasks=3):
    def batch(key, shots):
        y = jnp.repeat(jnp.arange(2), shots)
        return Batch(jax.random.normal(key, (2 * shots, 4)), y, jnp.ones(2 * shots))

    def episode(key):
        support_key, query_key = jax.random.split(key)
        return Episode(batch(support_key, 2), batch(query_key, 3))

    return jax.vmap(episode)(jax.random.split(KEY, tasks))


LEARNER = prototypical(mlp(3, hidden=(5,)), ways=2, normalization="inductive")
OBJECTIVE = episodic(LEARNER, cross_entropy)
EPISODES = episodes()
KEYS = jax.random.split(jax.random.key(1), 3)
PARAMS, STATE = LEARNER.init(KEY, jax.tree.map(lambda leaf: leaf[0], EPISODES))


def noisy(key, x):
    return x + jax.random.normal(key, x.shape)


def test_no_change_changes_no_loss():
    losses, aux = augmented(OBJECTIVE, lambda key, x: x)(PARAMS, STATE, EPISODES, KEYS)
    plain, plain_aux = OBJECTIVE(PARAMS, STATE, EPISODES, KEYS)
    np.testing.assert_array_equal(losses, plain)
    jax.tree.map(np.testing.assert_array_equal, aux, plain_aux)


def test_it_is_the_objective_of_changed_episodes():
    """A change that is a function of the example alone can be made beforehand."""
    support, query = (batch._replace(x=2 * batch.x + 1) for batch in EPISODES)
    losses, _ = augmented(OBJECTIVE, lambda key, x: 2 * x + 1)(PARAMS, STATE, EPISODES, KEYS)
    expected, _ = OBJECTIVE(PARAMS, STATE, Episode(support, query), KEYS)
    np.testing.assert_allclose(losses, expected, rtol=1e-6)


def test_every_example_of_every_task_is_changed_by_itself():
    """The objective is handed the examples; equal ones no longer are."""
    seen = {}

    def look(params, state, batch, keys):
        seen["x"] = np.concatenate([batch.support.x, batch.query.x], axis=1)
        seen["keys"] = jax.random.key_data(keys)
        return OBJECTIVE(params, state, batch, keys)

    alike = jax.tree.map(lambda leaf: jnp.zeros_like(leaf), EPISODES)
    augmented(look, noisy)(PARAMS, STATE, alike, KEYS)
    examples = seen["x"].reshape(-1, 4)
    assert len(np.unique(examples, axis=0)) == len(examples) == 3 * (4 + 6)
    # What the keys were split for is not drawn from them again.
    assert not np.any(np.all(seen["keys"] == jax.random.key_data(KEYS), axis=-1))


def test_a_task_is_changed_by_its_own_key():
    """So the tasks of a step can be cut into chunks, and a key means the same change."""
    objective = augmented(OBJECTIVE, noisy)
    whole = mean_gradient(objective)(PARAMS, STATE, EPISODES, KEYS)
    chunks = mean_gradient(objective, chunk=1)(PARAMS, STATE, EPISODES, KEYS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), whole, chunks)
    other, _ = objective(PARAMS, STATE, EPISODES, jax.random.split(KEY, 3))
    losses, _ = objective(PARAMS, STATE, EPISODES, KEYS)
    assert not np.any(losses == other)


def test_weights_weigh_the_changed_tasks():
    weights = jnp.array([0.5, 0.5, 0.0])
    objective = augmented(OBJECTIVE, noisy)
    losses, aux = objective(PARAMS, STATE, EPISODES, KEYS, weights)
    np.testing.assert_allclose(aux.metrics["loss"], np.mean(losses[:2]), rtol=1e-6)


def test_examples_may_be_of_several_arrays():
    def paired(batch):
        return batch._replace(x={"a": batch.x, "b": -batch.x})

    def apart(params, state, batch, keys):
        support, query = (given._replace(x=given.x["a"] + given.x["b"]) for given in batch)
        return OBJECTIVE(params, state, Episode(support, query), keys)

    def change(key, x):
        return {"a": x["a"] + 1, "b": 2 * x["b"]}

    pairs = Episode(*map(paired, EPISODES))
    losses, _ = augmented(apart, change)(PARAMS, STATE, pairs, KEYS)
    support, query = (batch._replace(x=1 - batch.x) for batch in EPISODES)
    expected, _ = OBJECTIVE(PARAMS, STATE, Episode(support, query), KEYS)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


CHANGES = {
    "shape": lambda key, x: x[:2],
    "type": lambda key, x: x.astype(jnp.bfloat16),
    "structure": lambda key, x: (x,),
    "nothing": lambda key, x: None,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_is_not_the_like_of_the_example_is_refused(change):
    with pytest.raises(ValueError, match=r"of an example float32\[4\]: give one that keeps"):
        augmented(OBJECTIVE, change)(PARAMS, STATE, EPISODES, KEYS)
