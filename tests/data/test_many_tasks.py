"""Sources of many tasks: whose turn it is, which examples a task has, and real sets of tasks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.data import (
    PlacedSampler,
    adapted_tasks,
    array_source,
    cifar100_tasks,
    clinc150_tasks,
    held_out_task,
    looked_up,
    mnist,
    multi_mnist,
    paired,
    review_tasks,
    reviews,
    task_source,
    without_labels,
    without_support,
)
from jaxmeta.data.placed import at_place
from jaxmeta.distributed.parallel import by_shard_map
from jaxmeta.evaluate import evaluator, over_all, summarize
from jaxmeta.learners import fixed_classifier
from jaxmeta.nn import from_functions
from jaxmeta.types import Episode

KEY = jax.random.key(0)
COUNTS = np.array([[3, 4, 0], [1, 2, 5], [10, 6, 4]])  # the first task has no third class
TOTAL = int(COUNTS.sum())
SOURCE = task_source(np.arange(TOTAL, dtype=np.int32)[:, None], COUNTS, ["ant", "bee", "cat"])
# The task and the class of each example, counted out.
OWNERS = np.repeat(np.arange(3), COUNTS.sum(axis=1))
LABELS = np.concatenate([np.repeat(np.arange(3), row) for row in COUNTS])


def belongs(batch):
    """Whether a batch's examples have the task and the label that they say."""
    rows, real = np.asarray(batch.x.x)[..., 0], np.asarray(batch.mask) > 0
    return (OWNERS[rows] == batch.x.task)[real].all() and (LABELS[rows] == batch.y)[real].all()


def drawn(sample, places):
    keys = jax.random.split(KEY, len(places))
    return jax.jit(jax.vmap(at_place(sample), (None, 0, 0)))(SOURCE.data, keys, places)


def test_tasks_take_turns_and_examples_are_uniform():
    batches = drawn(SOURCE.batches(50), jnp.arange(300))
    assert belongs(batches)
    np.testing.assert_array_equal(batches.x.task[:, 0], np.arange(300) % 3)
    for task in range(3):
        rows = np.asarray(batches.x.x)[task::3].reshape(-1)
        seen = np.bincount(rows, minlength=TOTAL)[task == OWNERS]
        each = rows.size / seen.size
        assert np.abs(seen - each).max() < 5 * np.sqrt(each)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_the_frequency_of_a_task_is_a_power_of_its_size(exponent):
    count = 6_000
    batches = drawn(SOURCE.batches(1, exponent=exponent), jnp.zeros(count, jnp.int32))
    assert belongs(batches)
    sizes = COUNTS.sum(axis=1).astype(float)
    expected = sizes**exponent / np.sum(sizes**exponent)
    found = np.bincount(np.asarray(batches.x.task)[:, 0], minlength=3) / count
    assert np.abs(found - expected).max() < 4 * np.sqrt(0.25 / count)


def test_whole_tasks_have_every_example_once():
    wholes = drawn(SOURCE.whole, jnp.arange(4))
    assert belongs(wholes)
    for place in range(4):
        real = np.asarray(wholes.mask[place]) > 0
        rows = np.asarray(wholes.x.x[place])[real, 0]
        np.testing.assert_array_equal(rows, np.flatnonzero(place % 3 == OWNERS))
        assert not np.any(np.asarray(wholes.x.x[place])[~real])


def test_episodes_have_different_examples_of_every_class_of_a_task():
    source = task_source(np.arange(12)[:, None], [[3, 4], [3, 2]], ["ant", "bee"])
    keys = jax.random.split(KEY, 200)
    sample = source.episodes(ways=2, shots=1, queries=1)
    episodes = jax.vmap(sample.at, (None, 0, 0))(source.data, keys, jnp.arange(200))
    owners, labels = np.repeat([0, 1], [7, 5]), np.repeat([0, 1, 0, 1], [3, 4, 3, 2])
    rows = [np.asarray(part.x.x)[..., 0] for part in episodes]
    for part, own in zip(episodes, rows, strict=True):
        np.testing.assert_array_equal(owners[own], part.x.task)
        np.testing.assert_array_equal(labels[own], part.y)
    assert (rows[0] != rows[1]).all()
    assert set(np.concatenate(rows).ravel().tolist()) == set(range(12))


def test_a_sampler_without_a_place_takes_one_at_random():
    keys = jax.random.split(KEY, 300)
    tasks = jax.vmap(SOURCE.batches(1), (None, 0))(SOURCE.data, keys).x.task
    assert np.abs(np.bincount(np.asarray(tasks)[:, 0]) - 100).max() < 40
    both = paired({"one": SOURCE.batches(1), "two": SOURCE.batches(1)})
    data = {"one": SOURCE.data, "two": SOURCE.data}
    pairs = jax.vmap(both, (None, 0))(data, keys)
    assert np.any(np.asarray(pairs["one"].x.task != pairs["two"].x.task))


def test_samplers_of_samplers_keep_the_turns():
    for sample in (without_labels(SOURCE.batches(2)), without_support(SOURCE.whole)):
        assert isinstance(sample, PlacedSampler)
        task = sample.at(SOURCE.data, KEY, 2)
        batch = task.query if isinstance(task, Episode) else task
        assert (batch.x.task == 2).all()
    # A sampler that does not know of places stays one.
    plain = array_source([[1.0]], [0])
    assert not isinstance(without_labels(plain.batches(2)), PlacedSampler)


def test_tokens_of_tasks_are_looked_up():
    tokens = {"tokens": np.array([[2, 0], [1, 2]])}
    source = looked_up(task_source(tokens, [[1], [1]], ["a", "b"]), {"words": np.eye(3)})
    batch = source.batches(3).at(source.data, KEY, 1)
    np.testing.assert_array_equal(batch.x.x["words"], np.eye(3)[batch.x.x["tokens"]])
    assert (batch.x.task == 1).all()


def test_an_evaluation_has_the_tasks_in_order_on_any_number_of_devices():
    def task_of(params, x):
        return jnp.stack([x.task, x.task], axis=1).astype(jnp.float32)

    told = from_functions(lambda key, x: (), task_of)
    learner, sample = fixed_classifier(told), without_support(SOURCE.whole)
    params, state = learner.init(KEY, sample(SOURCE.data, KEY))

    def mean(outputs, y, mask):
        return jnp.sum(outputs[:, 0] * mask) / jnp.sum(mask)

    for count in (1, 8):
        spread = by_shard_map(jax.devices()[:count])
        run = evaluator(learner, {"task": mean}, sample, sample.places, spread=spread)
        values = run(params, state, SOURCE.data, KEY)
        np.testing.assert_array_equal(values["task"], [0, 1, 2])


def test_a_task_is_adapted_to_with_its_own_examples():
    query = task_source(100 + np.arange(6)[:, None], [[1, 1, 0]] * 3, ["ant", "bee", "cat"])
    both = adapted_tasks(SOURCE, query)
    episode = both.episodes(ways=3, shots=1, queries=1).at(both.data, KEY, 2)
    assert belongs(episode.support)
    assert episode.query.x.x[:, 0].tolist() == [104, 105]
    assert (episode.query.x.task == 2).all()
    with pytest.raises(ValueError, match=r"2 ways.*3 classes"):
        both.episodes(ways=2, shots=1, queries=1)
    with pytest.raises(ValueError, match=r"3.*1"):
        adapted_tasks(SOURCE, task_source(np.ones((1, 1)), [[1]], ["ant"]))


@pytest.mark.parametrize(
    ("counts", "names", "error"),
    [
        ([3, 3], ["ant", "bee"], r"shape \[2\].*\[tasks, classes\]"),
        ([[3], [-1]], ["ant", "bee"], r"non-negative"),
        ([[3], [4]], ["ant", "bee"], r"sum to 7"),
        ([[3], [3]], ["ant"], r"1 names"),
        ([[6], [0]], ["ant", "bee"], r"'bee' has 0"),
    ],
)
def test_counts_that_do_not_fit_are_told(counts, names, error):
    with pytest.raises(ValueError, match=error):
        task_source(np.ones((6, 1)), counts, names)


def test_episodes_that_a_task_cannot_fill_are_told():
    with pytest.raises(ValueError, match=r"2 ways.*3 classes"):
        SOURCE.episodes(ways=2, shots=1, queries=1)
    with pytest.raises(ValueError, match=r"class 2 of 'ant' has 0"):
        SOURCE.episodes(ways=3, shots=1, queries=1)
    with pytest.raises(ValueError, match=r"size is 0"):
        SOURCE.batches(0)
    with pytest.raises(ValueError, match=r"queries is 0"):
        SOURCE.episodes(ways=3, shots=1, queries=0)


def test_cifar100_has_the_official_images_of_each_superclass(data_dir):
    sources = cifar100_tasks(data_dir=data_dir)
    sizes = {part: np.asarray(each.data.counts).tolist() for part, each in sources.items()}
    assert sizes == {"train": [450] * 100, "valid": [50] * 100, "test": [100] * 100}
    pixels = [
        {image.tobytes() for image in np.asarray(source.data.examples)}
        for source in sources.values()
    ]
    assert len(pixels[0] | pixels[1]) > 49_900  # few images are there twice
    assert len(pixels[0] & pixels[1]) < 30


def test_multi_mnist_lays_one_digit_over_another(data_dir):
    digits, both = mnist(data_dir=data_dir)["test"], multi_mnist(data_dir=data_dir)["test"]
    assert np.asarray(both.data.counts).reshape(2, 10).sum(axis=1).tolist() == [10_000] * 2
    first, second = np.split(np.asarray(both.data.examples), 2)
    # The same images in both tasks, sorted by another label.
    assert {image.tobytes() for image in first} == {image.tobytes() for image in second}
    # The smaller copy of a digit is where it was put: at the top left, less than a pixel off.
    one, laid = np.asarray(digits.data.examples)[7, ..., 0], first[7, ..., 0]
    small = np.zeros((28, 28))
    for (row, column), value in np.ndenumerate(one):
        small[int(row * 28 / 36), int(column * 28 / 36)] += value * (28 / 36) ** 2
    left = small[:8] > 100  # beyond the reach of the other
    assert laid[:8][left].min(initial=255) > 20


def test_clinc150_has_the_domain_of_every_intent(data_dir):
    sources = clinc150_tasks(data_dir=data_dir)
    counts = np.asarray(sources["train"].data.source.counts).reshape(2, 150)
    assert counts[0].tolist() == [1_500] * 10 + [0] * 140
    assert counts[1].tolist() == [100] * 150
    tokens = np.asarray(sources["test"].data.source.examples["tokens"])
    np.testing.assert_array_equal(tokens[:4_500], tokens[4_500:])


def test_review_tasks_are_the_reviews_of_each_domain(data_dir):
    domains = ["books", "dvd"]
    sources = review_tasks(domains, data_dir=data_dir)
    each = [reviews(domain, data_dir=data_dir) for domain in domains]
    for part in ("train", "valid", "test"):
        counts = [source[part].data.source.counts for source in each]
        np.testing.assert_array_equal(sources[part].data.source.counts, np.concatenate(counts))
    few = review_tasks(domains, sizes=[20, 8], data_dir=data_dir)
    assert np.asarray(few["train"].data.source.counts).tolist() == [10, 10, 4, 4]
    whole, cut = (
        each["train"].whole.at(each["train"].data, KEY, 1).x.x["tokens"] for each in (sources, few)
    )
    np.testing.assert_array_equal(cut[:4], whole[:4])
    without = review_tasks(domains, held_out="books", data_dir=data_dir)
    assert without["train"].tasks == without["test"].tasks == 1
    for part, own in (("train", "dvd"), ("valid", "dvd"), ("test", "books")):
        place, source = domains.index(own), without[part].data.source
        expected = np.asarray(sources[part].data.source.counts).reshape(2, 2)[place]
        np.testing.assert_array_equal(source.counts, expected)
    with pytest.raises(ValueError, match=r"'music'.*books, dvd"):
        review_tasks(domains, held_out="music", data_dir=data_dir)
    with pytest.raises(ValueError, match=r"sizes has 4000 for 'dvd'"):
        review_tasks(domains, sizes=[20, 4_000], data_dir=data_dir)
    with pytest.raises(ValueError, match=r"1 numbers.*2 domains"):
        review_tasks(domains, sizes=[20], data_dir=data_dir)


def test_one_task_is_predicted_like_any_other_examples():
    source = task_source(np.ones((3, 1), np.float32), [[1, 2]], ["ant"])
    assert source.whole(source.data, KEY).y.tolist() == [0, 1, 1]
    learner = fixed_classifier(from_functions(lambda key, x: (), lambda _, x: -x.x))
    metrics = {"zeros": lambda z, y, mask: jnp.sum(jnp.where(y == 0, mask, 0.0)) / jnp.sum(mask)}
    run = over_all(learner, metrics, without_support(source.whole))
    values = run({"model": ()}, {"model": ()}, source.data, KEY)
    assert summarize(values["zeros"]).mean == pytest.approx(1 / 3)


def test_each_task_is_held_out_and_the_others_are_learned():
    draw = jax.jit(held_out_task(SOURCE.batches(2)))
    held = set()
    for key in jax.random.split(KEY, 30):
        episode = draw(SOURCE.data, key)
        (task,) = set(episode.query.x.task.tolist())
        assert sorted(episode.support.x.task.tolist()) == sorted(2 * [*({0, 1, 2} - {task})])
        assert belongs(episode.query)
        held.add(task)
    assert held == {0, 1, 2}
    for wrong in (SOURCE.batches(2, exponent=1.0), lambda data, key: None):
        with pytest.raises(ValueError, match="without an exponent"):
            held_out_task(wrong)
