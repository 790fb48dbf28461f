"""Examples that do not fit on the device: tasks are chosen first, and read ahead of their steps.

Which examples a task has is drawn without reading any (:mod:`jaxmeta.data.choices`), so a step's
meta-batch is a function of ``(key, step)`` and can be read anywhere, at any time: ahead of the step
by other threads, from the middle of a run after a restart, or in part by each host. Examples are
moved to the device as they are stored, images as uint8, and are decoded there. This is the only
module that imports ``grain``, and only when called.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from jaxmeta.data.batches import described, host_array
from jaxmeta.data.choices import Choice, Choose, ClassData, class_data
from jaxmeta.data.decode import Decode, decode_inputs
from jaxmeta.data.episodes import check_decode, finish, source_of_choices
from jaxmeta.keys import task_keys
from jaxmeta.types import Array, Key, PyTree, Source


class Records(Protocol):
    """A random-access data source: TFDS's ``as_data_source``, a memory-mapped array, a list."""

    def __len__(self) -> int:
        """The number of records."""

    def __getitem__(self, number: int, /) -> Any:
        """One record; several threads call this at once."""


@dataclasses.dataclass(frozen=True, eq=False)
class StreamedSampler:
    """A sampler whose tasks :func:`~jaxmeta.data.stream` reads ahead.

    It can be called like any other sampler, as in evaluations. It then draws the same tasks, but
    the device waits for the host to read them.

    Attributes:
      choose: draws which examples a task has.
      read: reads examples on the host: rows ``[...]`` to a pytree of arrays ``[..., *shape]``.
      like: the shapes and types of one example.
      decode: makes the model's input from one example.
    """

    choose: Choose
    read: Callable[[np.ndarray], PyTree]
    like: PyTree
    decode: Decode

    def __call__(self, data: ClassData, key: Key) -> PyTree:
        """Draws one task."""
        choice = self.choose(data, key)
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((*choice.rows.shape, *leaf.shape), leaf.dtype),
            self.like,
        )
        examples = jax.pure_callback(self.read, shapes, choice.rows, vmap_method="broadcast_all")
        return self.finish(examples, choice)

    def finish(self, examples: PyTree, choice: Choice) -> PyTree:
        """The task of a choice, once its examples are read; pure, to be run on the device."""
        return finish(examples, choice, self.decode)


def streamed_source(
    records: Records,
    classes: Mapping[str, Sequence[int] | np.ndarray],
    read: Callable[[Any], PyTree] = lambda record: record,
    *,
    decode: Decode = decode_inputs,
    variants: int = 1,
    where: Callable[[int], str] = "Record {}".format,
) -> Source:
    """A source like :func:`~jaxmeta.data.class_source` whose examples are read when needed.

    With the same examples in the same order, a key means the same task, bit for bit. The samplers
    are :class:`~jaxmeta.data.StreamedSampler`.

    Args:
      records: where examples are read from.
      classes: the numbers of each class's records, by its name. Records of no class are not used,
        so the parts of a split may share ``records``.
      read: makes an example from a record, on the host: any pytree of arrays, of the same shapes
        for all records.
      decode: makes the model's input from an example, on the device, as in
        :func:`~jaxmeta.data.class_source`.
      variants: as in :func:`~jaxmeta.data.class_source`.
      where: what a record is called in error messages.

    Raises:
      ValueError: there is no record, the first cannot be read, its example cannot be decoded or,
        from :func:`~jaxmeta.data.stream`, an example cannot be read.

    >>> import jax, numpy as np
    >>> records = np.zeros((8, 5, 5, 1), np.uint8)  # or np.load(..., mmap_mode="r")
    >>> source = streamed_source(records, {"ant": range(4), "bee": range(4, 8)})
    >>> sample = source.episodes(ways=2, shots=1, queries=1)
    >>> sample(source.data, jax.random.key(0)).support.x.shape
    (2, 5, 5, 1)
    """
    if not sum(map(len, classes.values())):
        raise ValueError(
            "A streamed source has 0 records; give each class the numbers of its records."
        )
    counts = np.array([len(numbers) for numbers in classes.values()])
    order = np.concatenate([np.asarray(numbers, np.int64) for numbers in classes.values()])

    def example(row: int) -> PyTree:
        number = int(order[row])
        return read_record(
            records, number, lambda record: jax.tree.map(host_array, read(record)), where
        )

    like = _like(example(0))
    check_decode(decode, variants, like)

    def read_rows(rows: np.ndarray) -> PyTree:
        rows = np.asarray(rows)
        examples = jax.tree.map(lambda leaf: np.zeros((rows.size, *leaf.shape), leaf.dtype), like)
        read_once = functools.cache(example)  # instances repeat an example
        for place, row in enumerate(rows.reshape(-1).tolist()):
            if row < 0:  # padding
                continue
            values = read_once(row)
            if _like(values) != like:
                raise ValueError(
                    f"{where(int(order[row]))} is {described(values)} and the first record is "
                    f"{described(like)}; give a read that makes all of them alike."
                )
            for leaf, value in zip(*map(jax.tree.leaves, (examples, values)), strict=True):
                leaf[place] = value
        return jax.tree.map(lambda leaf: leaf.reshape(*rows.shape, *leaf.shape[1:]), examples)

    def sampler(choose: Choose) -> StreamedSampler:
        return StreamedSampler(choose, read_rows, like, decode)

    return source_of_choices(class_data((), counts), counts, list(classes), variants, sampler)


def _like(example: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), example)


def read_record(
    records: Records, number: int, decode: Callable[[Any], Any], where: Callable[[int], str]
) -> Any:
    """Reads a record and decodes it.

    Raises:
      ValueError: the record cannot be read, or decoded; ``where`` says which.
    """
    try:
        return decode(records[number])
    except Exception as error:  # records and decoders raise errors of any type
        raise ValueError(
            f"{where(number)} cannot be read ({type(error).__name__}: {error}); "
            "repair it or leave it out."
        ) from error


def stream(
    sample: StreamedSampler,
    data: ClassData,
    key: Key,
    meta_batch: int,
    start: int,
    stop: int,
    places: slice | np.ndarray = slice(None),
    put: Callable[[tuple[Choice, PyTree]], PyTree] = lambda item: item,
    ahead: int | None = None,
) -> Iterator[PyTree]:
    """The meta-batches of :func:`~jaxmeta.train.outer_loop`, read ahead of their steps.

    The item of a step depends on ``(data, key, step)`` alone, so a stream that starts in the middle
    continues exactly like one that started at 0. Reading starts at once; ``close()`` ends it.

    Args:
      sample: a sampler of a streamed source.
      data: the data of that source.
      key: the training key, the same as for the outer loop.
      meta_batch: number of tasks in a step, over all hosts.
      start: the first step.
      stop: the step after the last.
      places: which tasks of each meta-batch are read: those of this host, as
        :func:`jaxmeta.distributed.parallel.local_tasks` gives them.
      put: sends an item to the devices, in the thread that read it.
      ahead: number of steps to read at a time, each in its own thread, before they are requested;
        ``None`` is one for each core, at most 16.

    Returns:
      An iterator over steps, of ``(choices, examples)``, or what ``put`` makes of them. Both have a
      leading axis of tasks; the examples are as they are stored, and
      ``jax.vmap(sample.finish)(examples, choices)`` makes the tasks.

    Raises:
      ValueError: when an item is requested, one of its examples cannot be read.

    >>> import jax, numpy as np
    >>> from jaxmeta.data import streamed_source
    >>> source = streamed_source(np.zeros((8, 5), np.uint8), {"ant": range(4), "bee": range(4, 8)})
    >>> sample = source.batches(16)
    >>> items = stream(sample, source.data, jax.random.key(0), meta_batch=2, start=0, stop=3)
    >>> for choices, examples in items:
    ...     tasks = jax.vmap(sample.finish)(examples, choices)
    >>> tasks.x.shape
    (2, 16, 5)
    """
    import grain  # heavy, and needed only here

    # Drawn on the CPU, as the accelerator has other work; threefry gives the same bits on both.
    cpu = jax.local_devices(backend="cpu")[0]
    data, key = jax.device_put((data, key), cpu)

    def draw(data: ClassData, key: Key, step: Array) -> Choice:
        keys = task_keys(key, step, meta_batch).sample[places]
        return jax.vmap(sample.choose, in_axes=(None, 0))(data, keys)

    # Compiled here, once, not by each thread.
    drawn = jax.jit(draw).lower(data, key, np.int32(start)).compile()

    def load(step: int) -> PyTree:
        choices = jax.tree.map(np.asarray, drawn(data, key, np.int32(step)))
        return put((choices, sample.read(choices.rows)))

    threads = ahead or min(16, os.cpu_count() or 1)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    items = iter(grain.MapDataset.range(start, stop).map(load).to_iter_dataset(options))
    items.start_prefetch()
    return items
