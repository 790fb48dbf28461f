"""A streamed meta-batch is the one that is drawn in memory, whoever reads it, when and in parts."""

import threading
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta.data import class_source, stream, streamed_source
from jaxmeta.data.decode import rotated
from jaxmeta.distributed.parallel import by_shard_map
from jaxmeta.evaluate import evaluator
from jaxmeta.keys import task_keys
from jaxmeta.train import init_train_state, outer_loop, streamed_loop
from jaxmeta.types import Learner, Objective, Report
from tests.data.marked import same

COUNTS = np.array([5, 6, 5, 7])
NAMES = ("ant", "bee", "cat", "dog")
KEY = jax.random.key(3)


class Shuffled:
    """Images in another order than their classes', and what was read of them."""

    def __init__(self):
        random = np.random.RandomState(0)
        self.images = random.randint(0, 256, (COUNTS.sum(), 3, 3, 1)).astype(np.uint8)
        self.at = random.permutation(len(self.images))
        self.read = []
        self.broken = None

    def __len__(self):
        return len(self.at)

    def __getitem__(self, number):
        self.read.append(number)
        if number == self.broken:
            raise RuntimeError("checksums differ")
        return self.images[self.at == number][0]

    def sources(self, rotations=False):
        """In memory, and streamed."""
        parts = np.split(self.at, np.cumsum(COUNTS)[:-1])
        classes = dict(zip(NAMES, parts, strict=True))
        return (
            class_source(self.images, COUNTS, NAMES, **rotated(rotations)),
            streamed_source(
                self, classes, where="Record {} of animals".format, **rotated(rotations)
            ),
        )


def joined(parts):
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


OPTIONS = {
    "plain": {"ways": 3, "shots": 1, "queries": 2},
    "padded": {"ways": 2, "shots": 1, "queries": 2, "max_ways": 3, "max_shots": 2},
    "untidy": {
        "ways": (1, 2),
        "shots": (1, 2),
        "queries": 1,
        "imbalanced": True,
        "unlabeled": 2,
        "distractors": 1,
    },
    "batches": {"size": 4},
    "instances": {"ways": 3, "shots": 1, "queries": 2},
}


@pytest.mark.parametrize(
    ("name", "rotations"),
    [("plain", False), ("padded", True), ("untidy", True), ("batches", True), ("instances", True)],
)
def test_streamed_tasks_are_those_in_memory(name, rotations):
    records = Shuffled()
    memory, streamed = records.sources(rotations)
    kind = name if name in ("batches", "instances") else "episodes"
    one, other = (getattr(source, kind)(**OPTIONS[name]) for source in (memory, streamed))
    draw = jax.jit(jax.vmap(one, (None, 0)))
    make = jax.jit(jax.vmap(other.finish))
    items = list(stream(other, streamed.data, KEY, 3, 2, 4))
    for step, (choices, images) in zip((2, 3), items, strict=True):
        assert images.dtype == np.uint8
        assert same(make(images, choices), draw(memory.data, task_keys(KEY, step, 3).sample))
    # Copies of an instance are read once: in two steps of three tasks, at most three examples each.
    assert name != "instances" or len(records.read) <= 1 + 2 * 3 * 3
    assert memory.classes == streamed.classes == len(NAMES) * (4 if rotations else 1)


def test_a_stream_is_what_the_outer_loop_draws():
    """Each task is carried out of its step, to be looked at."""
    memory, streamed = Shuffled().sources()
    optimizer, options = optax.sgd(0.1), OPTIONS["plain"]

    def loss(params, state, carried, key):
        x = carried.task.query.x
        return jnp.mean(x * params) + jax.random.normal(key), Report(carry=carried.task)

    objective = Objective(None, loss, carry=lambda params, state, task, key: task)
    both = (outer_loop, memory), (streamed_loop, streamed)
    updates = [loop(objective, optimizer, s.episodes(**options), 2) for loop, s in both]
    sample = streamed.episodes(**options)
    first = jax.eval_shape(jax.vmap(sample, (None, 0)), streamed.data, jax.random.split(KEY, 2))
    tasks = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), first)
    states = [init_train_state(optimizer, jnp.ones(()), (), tasks) for _ in both]
    items = [stream(sample, streamed.data, KEY, 2, 0, 3) for _ in range(2)]
    for choices, images in items[0]:
        rows = [
            update(state, data, KEY, 1)
            for update, state, data in zip(updates, states, (memory.data, items[1]), strict=True)
        ]
        states = [state for state, _ in rows]
        drawn = jax.vmap(sample.finish)(images, choices)
        assert same(states[0].carry, drawn)
        assert same(states[1].carry, drawn)
        # To rounding: the two programs fuse the loss with different ways to get at the images.
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), *rows)


def test_a_stream_may_start_anywhere_and_be_cut_over_hosts():
    records = Shuffled()
    _, source = records.sources()
    sample = source.episodes(**OPTIONS["padded"])
    whole = list(stream(sample, source.data, KEY, 4, 0, 5))
    assert not same(whole[0], whole[1])
    assert same(list(stream(sample, source.data, KEY, 4, 3, 5, ahead=1)), whole[3:])
    hosts, read = [], []
    for places in (slice(0, 1), slice(1, 4)):
        records.read.clear()
        hosts.append(list(stream(sample, source.data, KEY, 4, 0, 5, places=places)))
        read.append(sorted(records.read))
    for parts, together in zip(zip(*hosts, strict=True), whole, strict=True):
        assert same(joined(parts), together)
    # Each host read its own images, once in a step, and none for padding.
    for items, numbers in zip(hosts, read, strict=True):
        rows = [np.unique(choices.rows) for choices, _ in items]
        assert all(row[0] == -1 for row in rows)
        assert sorted(records.at[np.concatenate([row[1:] for row in rows])].tolist()) == numbers


def test_reading_runs_ahead_and_items_are_sent_from_there():
    records = Shuffled()
    _, source = records.sources()
    sent, all_sent = [], threading.Event()

    def put(item):
        sent.append(threading.current_thread())
        if len(sent) == 3:
            all_sent.set()
        return jax.device_put(item)

    sample = source.episodes(**OPTIONS["plain"])
    items = stream(sample, source.data, KEY, 2, 0, 9, put=put, ahead=3)
    assert all_sent.wait(60)  # and nothing was asked for
    assert threading.main_thread() not in sent
    choices, images = next(items)
    assert isinstance(images, jax.Array)
    assert choices.rows.shape == images.shape[:2]
    items.close()


def test_a_streamed_sampler_is_a_sampler():
    """Whoever cannot stream, as the evaluation, calls it: here on two devices."""
    memory, streamed = Shuffled().sources()

    def adapt(params, state, support, key):
        del params, state, key
        return support.x.sum(), {}

    def predict(params, state, adapted, x, mask=None, key=None):
        del params, mask, key
        return adapted + x.sum(axis=(1, 2, 3)), state

    learner = Learner(None, adapt, predict)
    values = []
    for source in (memory, streamed):
        sample = source.episodes(**OPTIONS["padded"])
        metrics = {"sum": lambda x, y, m: (x * m).sum()}
        run = evaluator(learner, metrics, sample, 6, 2, by_shard_map(jax.devices()[:2]))
        values.append(run((), (), source.data, KEY)["sum"])
    assert same(*values)
    assert len(np.unique(values[0])) == 6


def test_a_record_that_cannot_be_read_is_named():
    records = Shuffled()
    _, source = records.sources()
    records.broken = records.at[7]
    sample = source.episodes(ways=4, shots=2, queries=3)
    with pytest.raises(ValueError, match="cannot be read") as caught:
        list(stream(sample, source.data, KEY, 1, 0, 20))
    assert str(caught.value) == (
        f"Record {records.broken} of animals cannot be read (RuntimeError: checksums differ); "
        "repair it or leave it out."
    )
    records.broken = records.at[0]
    with pytest.raises(ValueError, match=f"Record {records.broken} of animals cannot be read"):
        records.sources()


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        ([], {}, "has 0 records; give each class"),
        (["ant.png"], {}, r"Record 0 cannot be read \(ValueError: .* type <U7; give arrays"),
        ([np.zeros((2, 3, 1), np.uint8)], rotated(True), r"\(2, 3, 1\) cannot be rotated; give sq"),
        ([np.zeros((2, 2, 1), np.uint8)], {"variants": 2}, "variants is 2.*; give a decode"),
    ],
)
def test_what_cannot_be_streamed_is_refused(images, options, message):
    with pytest.raises(ValueError, match=message):
        streamed_source(images, {"all": range(len(images))}, **options)


def test_images_of_another_shape_are_refused():
    images = [np.zeros((2, 2, 1), np.uint8), np.zeros((2, 2, 3), np.uint8)]
    source = streamed_source(images, {"all": [0, 1]})
    with pytest.raises(ValueError, match=r"Record 1 is uint8\[2, 2, 3\] .* uint8\[2, 2, 1\]"):
        next(stream(source.episodes(1, 1, 1), source.data, KEY, 1, 0, 1))


def test_records_may_be_read_into_any_pytree():
    """Lines of text become tokens with a mask, as those in memory are."""
    lines = ["b a", "c", "a a", "d c"]

    def read(line):
        tokens = np.array([ord(word) for word in line.split()])
        return {"tokens": np.resize(tokens, 2), "mask": np.arange(2) < len(tokens)}

    streamed = streamed_source(lines, {"neg": [1, 3], "pos": [0, 2]}, read)
    memory = class_source([read(lines[number]) for number in (1, 3, 0, 2)], [2, 2], ["neg", "pos"])
    draw = [jax.jit(s.episodes(2, 1, 1))(s.data, KEY) for s in (memory, streamed)]
    assert same(*draw)
