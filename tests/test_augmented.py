"""Training examples that are changed at random: the change, and an Objective over changed tasks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.data import (
    array_source,
    composed,
    crop_and_mirror,
    drop_pixels,
    erase,
    resized_crop,
    shift,
    sometimes,
    unchanged,
)
from jaxmeta.data.augment import cut_and_resize
from jaxmeta.gradients import estimate
from jaxmeta.learners import maml, prototypical
from jaxmeta.losses import cross_entropy
from jaxmeta.nn import mlp
from jaxmeta.objectives import augmented, episodic
from jaxmeta.objectives.augmented import changed
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


def made(change, count=2_000, image=IMAGE):
    """What a change makes of an image, by many keys."""
    keys = jax.random.split(KEY, count)
    return np.asarray(jax.jit(jax.vmap(change, (0, None)))(keys, image))


def test_every_shift_is_drawn_alike_often():
    images, padded = made(shift(1)), np.pad(IMAGE, ((1, 1), (1, 1), (0, 0)))
    counts = [
        np.all(images == padded[r : r + 5, c : c + 7], axis=(1, 2, 3)).sum()
        for r in range(3)
        for c in range(3)
    ]
    assert sum(counts) == len(images)
    assert max(abs(count - len(images) / 9) for count in counts) < 5 * np.sqrt(len(images) / 9)


def test_a_crop_of_all_is_the_image_and_one_of_whole_pixels_is_a_slice_but_for_its_border():
    whole = resized_crop((1.0, 1.0), (1.0, 1.0))
    np.testing.assert_allclose(whole(KEY, IMAGE), IMAGE, atol=1e-6)
    # Half of the sides, from the third pixel: within, the slice resized; its border is interpolated
    # with the pixels around it, as nothing of the image is hidden.
    image = jnp.asarray(np.random.default_rng(0).uniform(size=(8, 8, 1)), jnp.float32)
    part = cut_and_resize(image, jnp.full(2, 2 / 8), jnp.full(2, 4 / 8))
    resized = jax.image.resize(image[2:6, 2:6], (8, 8, 1), "linear")
    np.testing.assert_allclose(part[1:7, 1:7], resized[1:7, 1:7], atol=1e-6)
    # Of twice the height and width, in its middle: each pixel becomes a quarter of itself.
    small = cut_and_resize(jnp.ones((8, 8, 1)), jnp.full(2, -0.5), jnp.full(2, 2.0))
    np.testing.assert_allclose(small[2:6, 2:6], 1, atol=1e-6)
    assert small[:1].max() == small[:, :1].max() == 0
    # Enlarged twice, rows and columns are interpolated linearly between the centers of the pixels.
    large = cut_and_resize(jnp.arange(8.0)[None, :, None], jnp.zeros(2), jnp.array([1.0, 0.5]))
    np.testing.assert_allclose(large[0, 1:, 0], np.arange(1, 8) / 2 - 0.25, atol=1e-6)


@pytest.mark.parametrize("scale", [(0.3, 0.9), (0.5, 1.5)])
def test_crops_have_the_areas_that_were_asked_for(scale):
    """An image whose pixels say where they lie tells the height and the width of a crop of it."""
    size = 200
    rows, columns = jnp.mgrid[:size, :size] / size
    image = jnp.stack([rows, columns], axis=-1)
    images = made(resized_crop(scale), 200, image)
    middle = slice(size // 2 - 10, size // 2 + 10)
    per_pixel = (
        np.diff(images[:, middle, size // 2, 0], axis=1).mean(axis=1),
        np.diff(images[:, size // 2, middle, 1], axis=1).mean(axis=1),
    )
    height, width = (size * each for each in per_pixel)
    inside = (height * width > 0) & (np.maximum(height, width) < max(1, scale[1]) ** 0.5 - 1e-3)
    area, ratio = (height * width)[inside], (width / height)[inside]
    assert inside.mean() > 0.5
    assert scale[0] - 0.02 < area.min() < scale[0] + 0.1
    assert scale[1] - 0.2 < area.max() < scale[1] + 0.02
    assert 3 / 4 - 0.02 < ratio.min() < ratio.max() < 4 / 3 + 0.02


def test_a_rectangle_is_erased_and_nothing_else():
    images = made(erase((0.1, 0.4), (0.5, 2.0)), 500, jnp.ones((20, 30, 2)))
    np.testing.assert_array_equal(images[..., 0], images[..., 1])
    gone = images[..., 0] == 0
    rows, columns = gone.any(axis=2), gone.any(axis=1)
    np.testing.assert_array_equal(gone, rows[:, :, None] & columns[:, None, :])
    share = gone.mean(axis=(1, 2))
    assert 0.05 < share.min() < 0.15
    assert 0.35 < share.max() < 0.45
    assert gone.mean(axis=0).min() > 0  # wherever it may be


def test_dropped_pixels_are_gone_in_all_channels():
    images = made(drop_pixels(0.3), 500)
    gone = images == 0
    np.testing.assert_array_equal(gone[..., 0], gone[..., 1])
    np.testing.assert_array_equal(images[~gone], np.broadcast_to(IMAGE, images.shape)[~gone])
    assert abs(gone.mean() - 0.3) < 0.02


@pytest.mark.parametrize(
    "change", [shift(2), resized_crop(), erase(), drop_pixels(0.5)], ids=lambda change: ""
)
def test_a_change_keeps_range_and_type(change):
    images = made(change, 100)
    assert images.dtype == np.float32
    assert images.shape[1:] == IMAGE.shape
    assert images.min() >= 0
    assert images.max() <= 1
    one = jax.jit(change)(jax.random.split(KEY, 100)[7], IMAGE)
    np.testing.assert_allclose(images[7], one, atol=1e-6)


def test_changes_follow_each_other_with_keys_of_their_own():
    both = composed(noisy, lambda key, x: 2 * x, noisy)(KEY, jnp.zeros(4))
    keys = jax.random.split(KEY, 3)
    np.testing.assert_allclose(both, 2 * noisy(keys[0], 0 * both) + noisy(keys[2], 0 * both))
    np.testing.assert_array_equal(composed()(KEY, IMAGE), IMAGE)


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_a_change_is_made_as_often_as_was_asked_for(probability):
    images = made(sometimes(probability, lambda key, x: -x))
    assert abs((images < 0).mean() - probability) <= (probability not in (0, 1)) * 0.05


def test_protoclr_is_the_cross_entropy_of_distances_to_single_images():
    source = array_source(np.random.default_rng(0).normal(size=(20, 4)), np.arange(20) % 3)
    task = source.instances(5, 1, 2)(source.data, KEY)
    model = mlp(3, hidden=())
    objective = augmented(episodic(prototypical(model, 5), cross_entropy), noisy, unchanged)
    params, state = objective.init(KEY, task)
    value, _ = objective.loss(params, state, task, KEY)
    queries = changed(task.query, jax.random.split(KEY, 3)[1], noisy)
    weights = params["model"]["head"]
    near, far = (
        np.asarray(x @ weights["kernel"]) + np.asarray(weights["bias"])
        for x in (queries.x, task.support.x)
    )
    logits = -((near[:, None] - far[None]) ** 2).sum(axis=-1)
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = -np.mean(logits[np.arange(10), np.repeat(np.arange(5), 2)])
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_array_equal(task.support.x, task.query.x[::2])  # before they are changed


def test_umtra_is_maml_on_single_images_and_what_changes_make_of_them():
    source = array_source(np.random.default_rng(0).normal(size=(20, 4)), np.arange(20) % 3)
    task = source.instances(5, 1, 1)(source.data, KEY)
    plain = episodic(maml(mlp(5, hidden=()), 5, steps=2, learning_rate=0.1), cross_entropy)
    umtra = augmented(plain, noisy, unchanged)
    params, state = plain.init(KEY, task)
    _, query_key, key = jax.random.split(KEY, 3)
    by_hand = task._replace(query=changed(task.query, query_key, noisy))
    one = jax.grad(lambda p: umtra.loss(p, state, task, KEY)[0])(params)
    other = jax.grad(lambda p: plain.loss(p, state, by_hand, key)[0])(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), one, other)


def test_the_support_set_may_have_a_change_of_its_own():
    objective = Objective(lambda key, task: ((), ()), look)
    task, key = augmented(objective, noisy, unchanged).loss((), (), EPISODE, KEY)[1].statistics
    both, same_key = seen(noisy, EPISODE)
    jax.tree.map(np.testing.assert_array_equal, task.support, EPISODE.support)
    jax.tree.map(np.testing.assert_array_equal, task.query, both.query)
    assert key == same_key
    with pytest.raises(ValueError, match="episodes and the task is a Batch: leave it out"):
        augmented(objective, noisy, unchanged).loss((), (), EPISODE.query, KEY)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: shift(1.5), "pixels is 1.5: give a whole number"),
        (lambda: drop_pixels(2), "probability is 2: give a number from 0 to 1"),
        (lambda: sometimes(-1, noisy), "probability is -1: give a number from 0 to 1"),
        (lambda: resized_crop((1, 0.5)), r"scale is \(1, 0.5\): give two positive numbers"),
        (lambda: erase(ratio=(0, 1)), r"ratio is \(0, 1\): give two positive numbers"),
        (lambda: erase()(KEY, jnp.ones(3)), r"erase got .*shape \(3,\); give images"),
        (lambda: shift(1)(KEY, jnp.ones(3)), r"shift got .*shape \(3,\); give images"),
    ],
)
def test_bad_arguments_of_changes(make, words):
    with pytest.raises(ValueError, match=words):
        make()
