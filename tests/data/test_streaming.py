"""A streamed meta-batch is the one that is drawn in memory, whoever reads it, when and in parts."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta import train
from jaxmeta.data import class_source, finish, stream, streamed_source
from jaxmeta.evaluate import evaluator
from jaxmeta.types import Aux, Learner

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
            class_source(self.images, COUNTS, NAMES, rotations),
            streamed_source(
                self, classes, rotations=rotations, where="Record {} of animals".format
            ),
        )


def same(a, b):
    return all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
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
    "examples": {"size": 4},
}


@pytest.mark.parametrize(
    ("name", "rotations"),
    [("plain", False), ("padded", True), ("untidy", True), ("examples", True)],
)
def test_streamed_episodes_are_those_in_memory(name, rotations):
    memory, streamed = Shuffled().sources(rotations)
    kind = "examples" if name == "examples" else "episodes"
    one, other = (getattr(source, kind)(**OPTIONS[name]) for source in (memory, streamed))
    draw = jax.jit(jax.vmap(one, (None, 0)))
    make = jax.jit(jax.vmap(finish))
    items = list(stream(other, streamed.data, KEY, 3, 2, 4))
    for step, (choices, images) in zip((2, 3), items, strict=True):
        assert images.dtype == np.uint8
        keys = jax.random.split(jax.random.fold_in(KEY, step), (3, 2))[:, 0]
        assert same(make(images, choices), draw(memory.data, keys))


def test_a_stream_is_what_the_outer_loop_draws():
    memory, streamed = Shuffled().sources()

    def gradient(params, state, tasks, keys):
        del keys
        return params, Aux(state, {"tasks": tasks})

    options = OPTIONS["plain"]
    update = train.outer_loop(gradient, optax.sgd(0.0), memory.episodes(**options), 2)
    begin = train.start(optax.sgd(0.0), jnp.zeros(()), ())
    _, metrics = update(begin, memory.data, KEY, 3)
    items = stream(streamed.episodes(**options), streamed.data, KEY, 2, 0, 3)
    make = jax.jit(jax.vmap(finish))
    episodes = [make(images, choices) for choices, images in items]
    assert same(jax.tree.map(lambda *leaves: np.stack(leaves), *episodes), metrics["tasks"])


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
    # Each host read its own images, and none for padding.
    for items, numbers in zip(hosts, read, strict=True):
        rows = np.concatenate([choices.rows.reshape(-1) for choices, _ in items])
        assert (rows == -1).any()
        assert sorted(records.at[rows[rows >= 0]].tolist()) == numbers


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
        run = evaluator(learner, lambda x, y, m: (x * m).sum(), sample, 6, 2, jax.devices()[:2])
        values.append(run((), (), source.data, KEY))
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
        ([], {}, "has no records; give each class"),
        ([np.zeros((2, 2, 1))], {}, r"Record 0 is float64\[2, 2, 1\] and not uint8 \[height, "),
        ([np.zeros((2, 3, 1), np.uint8)], {"rotations": True}, "2 x 3 pixels cannot be rotated"),
    ],
)
def test_what_cannot_be_streamed_is_refused(images, options, message):
    with pytest.raises(ValueError, match=message):
        streamed_source(images, {"all": range(len(images))}, **options)


def test_images_of_another_shape_are_refused():
    images = [np.zeros((2, 2, 1), np.uint8), np.zeros((2, 2, 3), np.uint8)]
    source = streamed_source(images, {"all": [0, 1]})
    with pytest.raises(ValueError, match=r"Record 1 is uint8\[2, 2, 3\] and not uint8 \[2, 2, 1\]"):
        next(stream(source.episodes(1, 1, 1), source.data, KEY, 1, 0, 1))
