"""Images that do not fit on the device: episodes are chosen first, and read ahead of their steps.

Which images an episode has is drawn without looking at one (:mod:`jaxmeta.data.choices`), so a
step's meta-batch is a function of ``(key, step)`` and can be read by anyone, at any time: ahead of
the step by other threads, from the middle after a restart, a part of it by each host. Images cross
to the device as uint8, and :func:`~jaxmeta.data.finish` makes episodes of them there. The
only module that imports ``grain``, and only when called.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from jaxmeta.data.choices import Choice, Choose, ClassData, class_choices, class_data
from jaxmeta.data.episodes import finish, refuse_oblong
from jaxmeta.types import Array, Episode, Key, PyTree, Source


class Records(Protocol):
    """A random-access data source: TFDS's ``as_data_source``, a memory-mapped array, a list."""

    def __len__(self) -> int:
        """How many records there are."""

    def __getitem__(self, number: int, /) -> Any:
        """One of them; called by several threads at once."""


@dataclasses.dataclass(frozen=True)
class StreamedSampler:
    """A sampler whose episodes :func:`~jaxmeta.data.stream` reads ahead.

    Called like any other it draws the same episodes, and whoever runs it waits for the host to read
    them: enough for an evaluation, and for the shapes of an episode.

    Attributes:
      choose: which images an episode has.
      read: those images, on the host: rows ``[...]`` to uint8 ``[..., height, width, channels]``.
      shape: ``(height, width, channels)``.
    """

    choose: Choose
    read: Callable[[np.ndarray], np.ndarray]
    shape: tuple[int, ...]

    def __call__(self, data: ClassData, key: Key) -> Episode:
        """Draws one task."""
        choice = self.choose(data, key)
        images = jax.ShapeDtypeStruct((*choice.rows.shape, *self.shape), np.uint8)
        read = jax.pure_callback(self.read, images, choice.rows, vmap_method="broadcast_all")
        return finish(read, choice)


def streamed_source(
    records: Records,
    classes: Mapping[str, Sequence[int] | np.ndarray],
    decode: Callable[[Any], np.ndarray] = np.asarray,
    rotations: bool = False,
    where: Callable[[int], str] = "Record {}".format,
) -> Source:
    """The tasks of :func:`~jaxmeta.data.class_source`, whose images are read when they are needed.

    With the same images in the same order, a key means the same episode, bit for bit. The samplers
    are :class:`~jaxmeta.data.StreamedSampler`.

    Args:
      records: where images are read.
      classes: the numbers of each class's records, by its name. Records of none are not used, so
        that the parts of a split may share ``records``.
      decode: makes uint8 ``[height, width, channels]`` of a record, the same shape for all.
      rotations: as in :func:`~jaxmeta.data.class_source`.
      where: what a record is called in error messages.

    Raises:
      ValueError: there is no record, the first cannot be read, or its image cannot be rotated; from
        :func:`~jaxmeta.data.stream`, an image cannot be read.
    """
    if not sum(map(len, classes.values())):
        raise ValueError(
            "A streamed source has no records; give each class the numbers of its own."
        )
    counts = np.array([len(numbers) for numbers in classes.values()])
    order = np.concatenate([np.asarray(numbers, np.int64) for numbers in classes.values()])

    def image(row: int, shape: tuple[int, ...] | None = None) -> np.ndarray:
        number = int(order[row])
        pixels: np.ndarray = read_record(records, number, decode, where)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or shape not in (None, pixels.shape):
            wanted = list(shape) if shape else "[height, width, channels]"
            raise ValueError(
                f"{where(number)} is {pixels.dtype}{list(pixels.shape)} and not uint8 {wanted}; "
                "give a decode that makes it so."
            )
        return pixels

    shape = image(0).shape
    refuse_oblong(shape, rotations)

    def read(rows: np.ndarray) -> np.ndarray:
        rows = np.asarray(rows)
        images = np.zeros((rows.size, *shape), np.uint8)
        for place, row in enumerate(rows.reshape(-1).tolist()):
            if row >= 0:  # not padding
                images[place] = image(row, shape)
        return images.reshape(*rows.shape, *shape)

    episodes, examples = class_choices(counts, list(classes), rotations)
    return Source(
        class_data((), counts),
        lambda *given, **options: StreamedSampler(episodes(*given, **options), read, shape),
        lambda size: StreamedSampler(examples(size), read, shape),
    )


def read_record(
    records: Records, number: int, decode: Callable[[Any], Any], where: Callable[[int], str]
) -> Any:
    """What ``decode`` makes of a record.

    Raises:
      ValueError: the record cannot be read, or decoded; ``where`` says which.
    """
    try:
        return decode(records[number])
    except Exception as error:  # both raise whatever they like
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
    put: Callable[[tuple[Choice, np.ndarray]], PyTree] = lambda item: item,
    ahead: int | None = None,
) -> Iterator[PyTree]:
    """The meta-batches of :func:`~jaxmeta.train.outer_loop`, read ahead of their steps.

    The item of a step depends on ``(data, key, step)`` alone, so a stream that starts at a step
    goes on exactly as one that came to it. Reading starts at once; ``close()`` ends it.

    Args:
      sample: from a streamed source.
      data: of that source.
      key: of the run, as it is given to the outer loop.
      meta_batch: tasks of a step, over all hosts.
      start: the first step.
      stop: the step after the last.
      places: which tasks of each meta-batch are wanted: those of this host, as
        :func:`jaxmeta.distributed.parallel.places` tells them.
      put: sends an item to the devices, in the thread that read it.
      ahead: how many steps are read at once, by a thread each, before they are asked for; ``None``
        is one for each core, at most 16.

    Returns:
      Of each step ``(choices, images)``, or what ``put`` makes of them: every leaf of the choices,
      and uint8 images, with a leading axis of tasks. ``jax.vmap(finish)(images, choices)`` are the
      episodes.

    Raises:
      ValueError: when an item is asked for, one of its images cannot be read.
    """
    import grain  # heavy, and needed only here

    # Drawn beside the accelerator, which has other work; threefry has the same bits everywhere.
    cpu = jax.local_devices(backend="cpu")[0]
    data, key = jax.device_put((data, key), cpu)

    def draw(data: ClassData, key: Key, step: Array) -> Choice:
        keys = jax.random.split(jax.random.fold_in(key, step), (meta_batch, 2))[places, 0]
        return jax.vmap(sample.choose, in_axes=(None, 0))(data, keys)

    # Compiled here, once, and not by each thread.
    drawn = jax.jit(draw).lower(data, key, np.int32(start)).compile()

    def load(step: int) -> PyTree:
        choices = jax.tree.map(np.asarray, drawn(data, key, np.int32(step)))
        return put((choices, sample.read(choices.rows)))

    threads = ahead or min(16, os.cpu_count() or 1)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    items = iter(grain.MapDataset.range(start, stop).map(load).to_iter_dataset(options))
    items.start_prefetch()
    return items
