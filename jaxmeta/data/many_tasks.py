"""Many tasks of one kind, each with its own examples and labels, as one source."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.checks import check_count
from jaxmeta.data.batches import host_arrays, lengths
from jaxmeta.data.choices import Choice, ClassData, class_data
from jaxmeta.data.decode import Decode, decode_inputs
from jaxmeta.data.episodes import check_decode, finish
from jaxmeta.data.placed import PlacedSampler, at_place
from jaxmeta.data.sampling import distinct
from jaxmeta.types import Array, Batch, Episode, Key, PyTree, Sampler, Source, Tasked


def task_source(
    examples: PyTree, counts: Any, names: Sequence[str], *, decode: Decode = decode_inputs
) -> Source:
    r"""A source of batches that belong to one of several tasks, for multi-task learning.

    Every example says its task, as its inputs are :class:`~jaxmeta.types.Tasked`, and is labeled
    among the classes of that task. By default tasks are drawn in turn: the i-th of those that a
    step draws is of task i modulo their number, whatever chunk or device it is computed on.

    - ``source.batches(size)`` draws batches, uniformly over the examples of a task. With
      ``exponent=tau``, tasks are not in turn but at random, with probability
      :math:`n_t^\tau / \sum_s n_s^\tau`, where n is the number of a task's examples: 0 draws all
      alike, 1 in proportion to their examples.
    - ``source.episodes(ways, shots, queries)`` draws different examples of every class of a task,
      with its own labels; ``ways`` is the number of classes. ``exponent`` is as above.
    - ``source.whole`` draws all examples of a task, in turn, padded to the largest task.

    Args:
      examples: any pytree of arrays ``[n, ...]``, sorted by task, and by class within a task.
      counts: integers ``[tasks, classes]``, the number of examples of each class of each task;
        tasks with fewer classes have 0 examples of the last ones.
      names: what each task is called, for error messages.
      decode: as in :func:`jaxmeta.data.class_source`.

    Raises:
      ValueError: the arrays do not fit together, a task has no example or, from ``episodes`` and
        ``batches``, the data cannot fill such a task.

    References:
      Dou, Yu and Anastasopoulos, 2019, Investigating Meta-Learning Algorithms for Low-Resource
      Natural Language Understanding Tasks (sampling in proportion to size).

    >>> source = task_source(np.arange(5.0)[:, None], [[1, 1], [2, 1]], ["ants", "bees"])
    >>> batch = source.batches(3)(source.data, jax.random.key(0))
    >>> batch.x.x.shape, batch.x.task.shape, source.tasks, source.classes
    ((3, 1), (3,), 2, 2)
    >>> whole = source.whole.at(source.data, jax.random.key(0), 0)  # of task 0, padded
    >>> whole.x.x.tolist(), whole.y.tolist(), whole.mask.tolist()
    ([[0.0], [1.0], [0.0]], [0, 1, 0], [1.0, 1.0, 0.0])
    """
    examples, counts = host_arrays(examples), np.asarray(counts)
    _check_tasks(counts, names, lengths(examples))
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), examples)
    check_decode(decode, 1, like)
    tasks, classes = counts.shape
    sizes = counts.sum(axis=1)
    largest = int(sizes.max())

    def begin(data: ClassData, task: Array) -> tuple[Array, Array]:
        """Where a task begins among the examples, and how many it has."""
        own = data.counts.reshape(tasks, classes)[task]
        return data.starts[task * classes], jnp.sum(own, dtype=jnp.int32)

    def of_rows(data: ClassData, task: Array, rows: Array, mask: Array) -> tuple[Array, Batch]:
        # As in batch_choices: of classes that start at one row, all but the last are empty.
        y = (jnp.searchsorted(data.starts, rows, side="right") - 1).astype(jnp.int32)
        y = jnp.where(mask > 0, y - classes * task, 0)
        return jnp.where(mask > 0, rows, -1), Batch((), y, mask)

    def chosen_task(key: Key, place: Array, exponent: float | None) -> Array:
        if exponent is None:
            return (jnp.asarray(place) % tasks).astype(jnp.int32)
        logits = exponent * jnp.log(jnp.asarray(sizes, jnp.float32))
        return jax.random.categorical(key, logits).astype(jnp.int32)

    def taken(data: ClassData, choice: Choice, task: Array) -> PyTree:
        rows = jax.tree.map(
            lambda leaf: jnp.take(leaf, choice.rows, axis=0, mode="clip"), data.examples
        )
        return jax.tree.map(
            lambda batch: batch._replace(x=Tasked(batch.x, jnp.full_like(batch.y, task))),
            finish(rows, choice, decode),
            is_leaf=lambda node: isinstance(node, Batch),
        )

    def in_turn(at: Callable[[ClassData, Key, Array], Any], exponent: float | None) -> Sampler:
        if exponent is None and tasks > 1:
            return PlacedSampler(at, tasks)
        # There is one task, or the key tells which.
        return lambda data, key: at(data, key, jnp.zeros((), jnp.int32))

    def batches(size: int, exponent: float | None = None) -> Sampler:
        check_count("size", size, least=1)

        def at(data: ClassData, key: Key, place: Array) -> Batch:
            task_key, row_key = jax.random.split(key)
            task = chosen_task(task_key, place, exponent)
            start, count = begin(data, task)
            rows = start + jax.random.randint(row_key, (size,), 0, count, jnp.int32)
            rows, blank = of_rows(data, task, rows, jnp.ones(size, jnp.float32))
            return taken(data, Choice(rows, None, blank), task)

        return in_turn(at, exponent)

    def whole(data: ClassData, key: Key, place: Array) -> Batch:
        task = chosen_task(key, place, None)
        start, count = begin(data, task)
        places = jnp.arange(largest, dtype=jnp.int32)
        rows, blank = of_rows(data, task, start + places, (places < count).astype(jnp.float32))
        return taken(data, Choice(rows, None, blank), task)

    def episodes(ways: int, shots: int, queries: int, exponent: float | None = None) -> Sampler:
        for name, value in (("shots", shots), ("queries", queries)):
            check_count(name, value, least=1)
        if ways != classes:
            raise ValueError(
                f"An episode has {ways} ways and the tasks have {classes} classes: give that "
                "number, as episodes have all classes of a task."
            )
        needed = shots + queries
        task, poorest = divmod(int(np.argmin(counts)), classes)
        if counts[task, poorest] < needed:
            raise ValueError(
                f"An episode of {shots} shots and {queries} queries needs {needed} examples of "
                f"each class, and class {poorest} of {names[task]!r} has {counts[task, poorest]}: "
                "ask for fewer, or leave the task out."
            )
        bound = int(counts.max())

        def at(data: ClassData, key: Key, place: Array) -> Episode:
            task_key, row_key = jax.random.split(key)
            task = chosen_task(task_key, place, exponent)
            starts, numbers = (
                leaf.reshape(tasks, classes)[task] for leaf in (data.starts, data.counts)
            )
            keys = jax.random.split(row_key, classes)
            picks = jax.vmap(distinct, (0, None, 0, None))(keys, bound, numbers, needed)
            rows = starts[:, None] + picks
            parts = rows[:, :shots].reshape(-1), rows[:, shots:].reshape(-1)
            blanks = [
                of_rows(data, task, part, jnp.ones(part.size, jnp.float32))[1] for part in parts
            ]
            return taken(data, Choice(jnp.concatenate(parts), None, Episode(*blanks)), task)

        return in_turn(at, exponent)

    return Source(
        class_data(jax.tree.map(jnp.asarray, examples), counts.reshape(-1)),
        episodes=episodes,
        batches=batches,
        classes=classes,
        whole=in_turn(whole, None),
        tasks=tasks,
    )


def _check_tasks(counts: np.ndarray, names: Sequence[str], examples: Sequence[int]) -> None:
    """Raises ``ValueError`` unless there are counts ``[tasks, classes]`` of these examples."""
    if counts.ndim != 2 or not np.issubdtype(counts.dtype, np.integer) or (counts < 0).any():
        raise ValueError(
            f"The counts have type {counts.dtype} and shape {list(counts.shape)}; give "
            "non-negative integers [tasks, classes]."
        )
    if len(counts) != len(names) or set(examples) != {counts.sum()}:
        raise ValueError(
            f"The source has {list(examples)} examples, counts of {len(counts)} tasks that sum to "
            f"{counts.sum()}, and {len(names)} names; give each task one name, and the counts of "
            "its examples."
        )
    for name, count in zip(names, counts.sum(axis=1), strict=True):
        if not count:
            raise ValueError(f"The task {name!r} has 0 examples; leave it out.")


def adapted_tasks(support: Source, query: Source) -> Source:
    """Tasks to adapt to with all examples of one source, evaluated on all those of another.

    As when a network that many tasks trained is fine-tuned to each of them.

    Args:
      support: what to adapt to.
      query: what to evaluate on, of the same tasks.

    Returns:
      A source whose ``episodes(ways, shots, queries)`` draw the tasks in turn, each with all its
      examples, whatever numbers of shots and queries are asked for.

    Raises:
      ValueError: the sources differ in their tasks or, from ``episodes``, the tasks have another
        number of classes.

    >>> train = task_source(np.ones((4, 1)), [[2, 1], [1, 0]], ["ants", "bees"])
    >>> test = task_source(np.ones((2, 1)), [[1, 0], [0, 1]], ["ants", "bees"])
    >>> both = adapted_tasks(train, test)
    >>> episode = both.episodes(ways=2, shots=1, queries=1).at(both.data, jax.random.key(0), 1)
    >>> episode.support.mask.tolist(), episode.query.y.tolist()
    ([1.0, 0.0, 0.0], [1])
    """
    shown, asked = support.whole, query.whole
    tasks, classes = query.tasks, query.classes
    if shown is None or asked is None or tasks is None or support.tasks != tasks:
        raise ValueError(
            f"The tasks to adapt to are {support.tasks} and those to evaluate on {query.tasks}: "
            "give two sources of the same tasks, as from jaxmeta.data.task_source."
        )

    of_support, of_query = at_place(shown), at_place(asked)

    def at(data: tuple[PyTree, PyTree], key: Key, place: Array) -> Episode:
        keys = jax.random.split(key)
        return Episode(of_support(data[0], keys[0], place), of_query(data[1], keys[1], place))

    def episodes(ways: int, shots: int, queries: int) -> Sampler:
        if ways != classes:
            raise ValueError(
                f"An episode has {ways} ways and the tasks have {classes} classes: give that "
                "number, as episodes have all classes of a task."
            )
        return PlacedSampler(at, tasks)

    return Source((support.data, query.data), episodes, classes=classes, tasks=tasks)


def splits_to_adapt(tasks: Mapping[str, Source]) -> dict[str, Source]:
    """Splits of many tasks to train on, and then to adapt to one by one.

    Args:
      tasks: sources of the same tasks, by the names ``train``, ``valid`` and ``test``.

    Returns:
      ``train`` as it is, and ``valid`` and ``test`` as :func:`adapted_tasks` of ``train``.

    Raises:
      ValueError: as :func:`adapted_tasks`.
    """
    train = tasks["train"]
    return {
        "train": train,
        **{name: adapted_tasks(train, tasks[name]) for name in ("valid", "test")},
    }
