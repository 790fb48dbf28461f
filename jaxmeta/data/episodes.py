"""Few-shot episodes from images sorted by class, as pure functions of ``(data, key)``.

:func:`class_source` turns arrays into a :class:`~jaxmeta.types.Source`; :func:`make_batch` and
:func:`make_episode` are the checked boundary for arrays that a user brings along.
"""

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.types import Array, Batch, Episode, Key, PyTree, Sampler, Source

TURNS = 4


class ClassData(NamedTuple):
    """Images on the device, sorted by class.

    Attributes:
      images: uint8 ``[n, height, width, channels]``.
      starts: int32 ``[classes]``, where each class begins in ``images``.
      counts: int32 ``[classes]``, how many images each class has.
    """

    images: Array
    starts: Array
    counts: Array


def class_source(
    images: np.ndarray, counts: np.ndarray, names: Sequence[str], rotations: bool = False
) -> Source:
    """A source of N-way K-shot tasks: draw N classes, then K + Q different examples of each.

    Both draws are uniform without replacement. ``source.episodes(ways, shots, queries, max_ways,
    max_shots)`` returns a sampler of episodes with support ``[ways * shots, ...]`` and query
    ``[ways * queries, ...]``, ordered class by class: pixels float32 in ``[0, 1]``, labels int32 in
    ``[0, ways)`` in the order of drawing, masks float32. It samples under ``jit`` and ``vmap``.

    With ``max_ways`` or ``max_shots`` the shapes are those of the maxima, and ``ways`` and
    ``shots`` may be traced integers. What is left over is padding: pixels 0, label 0, mask 0. The
    rest is what the unpadded sampler draws with the same key. The query set does not depend on
    ``shots``.

    Args:
      images: uint8 ``[n, height, width, channels]``, sorted by class.
      counts: integers ``[classes]``, how many images each class has; they sum to ``n``.
      names: what each class is called, for error messages.
      rotations: make four classes of each one, its images turned by 0, 90, 180 and 270 degrees
        (Santoro et al., "Meta-Learning with Memory-Augmented Neural Networks", 2016). Turn ``r`` of
        class ``c`` is class ``4 * c + r``.

    Raises:
      ValueError: the arrays do not fit together; from ``episodes``, when the data cannot fill such
        an episode.
    """
    counts = np.asarray(counts)
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(
            f"class_source got images {images.dtype}{list(images.shape)}; "
            "give uint8 [n, height, width, channels]."
        )
    if counts.sum() != len(images) or len(counts) != len(names):
        raise ValueError(
            f"class_source got {len(images)} images, counts that sum to {counts.sum()} over "
            f"{len(counts)} classes and {len(names)} names; give one count and one name per class."
        )
    if rotations and images.shape[1] != images.shape[2]:
        raise ValueError(
            f"class_source cannot rotate images of {images.shape[1]} x {images.shape[2]} pixels; "
            "give square ones or rotations=False."
        )
    turns = TURNS if rotations else 1
    # One bound for all classes keeps shapes static; a smaller class never reaches beyond its count.
    largest = int(counts.max(initial=0))
    data = ClassData(
        images=jnp.asarray(images),
        starts=jnp.asarray(np.cumsum(counts) - counts, jnp.int32),
        counts=jnp.asarray(counts, jnp.int32),
    )

    def episodes(
        ways: int | Array,
        shots: int | Array,
        queries: int,
        max_ways: int | None = None,
        max_shots: int | None = None,
    ) -> Sampler:
        slots_ways = static_places("ways", ways, max_ways)
        slots_shots = static_places("shots", shots, max_shots)
        queries = static_places("queries", queries, None)
        most_ways = slots_ways if (known := known_number(ways)) is None else known
        most_shots = slots_shots if (known := known_number(shots)) is None else known
        if most_ways > turns * len(counts):
            raise ValueError(
                f"An episode of {most_ways} ways needs as many classes and this split has "
                f"{turns * len(counts)}; ask for fewer ways, or give it more classes (add some, or "
                "split them in other fractions)."
            )
        poorest = int(np.argmin(counts))
        if most_shots + queries > counts[poorest]:
            raise ValueError(
                f"An episode of {most_shots} shots and {queries} queries needs "
                f"{most_shots + queries} images a class and {names[poorest]!r} has "
                f"{counts[poorest]}; ask for fewer or drop the class."
            )

        def sample(data: ClassData, key: Key) -> Episode:
            class_key, example_key = jax.random.split(key)
            classes = turns * data.counts.shape[0]
            chosen = _distinct(class_key, classes, jnp.int32(classes), slots_ways)
            base = chosen // turns
            # A key per class, so that its examples do not depend on how many classes there are.
            keys = jax.vmap(jax.random.fold_in, (None, 0))(example_key, jnp.arange(slots_ways))
            picks = jax.vmap(_distinct, (0, None, 0, None))(
                keys, largest, data.counts[base], queries + slots_shots
            )
            rows = data.starts[base][:, None] + picks
            x = data.images.at[rows].get(mode="clip")
            if turns > 1:
                x = jax.vmap(jax.vmap(_turn, (0, None)))(x, chosen % turns)
            # Queries come first, so that padding the shots does not move them.
            query = _batch(x[:, :queries], ways, queries)
            support = _batch(x[:, queries:], ways, shots)
            return Episode(support, query)

        return sample

    return Source(data, episodes)


def make_inputs(x: PyTree) -> PyTree:
    """Makes inputs of a user's own arrays, as the episodes of this library have them.

    Args:
      x: any pytree of arrays ``[n, ...]``. uint8 becomes float32 in ``[0, 1]``, floats become
        float32, other integers (say, tokens) int32.

    Raises:
      ValueError: a value is not finite.
    """

    def convert(values: Any) -> Array:
        values = np.asarray(values)
        if values.dtype == np.uint8:
            return jnp.asarray(values.astype(np.float32) * np.float32(1 / 255))
        if np.issubdtype(values.dtype, np.integer):
            return jnp.asarray(values, jnp.int32)
        values = values.astype(np.float32)
        if not np.isfinite(values).all():
            bad = np.argwhere(~np.isfinite(values))[0].tolist()
            raise ValueError(f"The value at {bad} is {values[tuple(bad)]}; remove or replace it.")
        return jnp.asarray(values)

    return jax.tree.map(convert, x)


def make_batch(x: PyTree, y: Any, ways: int | None = None) -> Batch:
    """Checks a user's own arrays and makes a :class:`~jaxmeta.types.Batch` of them.

    Runs on concrete arrays, outside of ``jit``.

    Args:
      x: inputs, any pytree of arrays ``[n, ...]``, converted as by :func:`make_inputs`.
      y: integer labels ``[n]``, or float targets ``[n, d]``.
      ways: the number of classes; labels must lie in ``[0, ways)``. ``None`` sets no upper bound.

    Returns:
      The batch, its mask all ones.

    Raises:
      ValueError: lengths differ, ``y`` has another shape, a value is not finite, or a label is out
        of range.
    """
    x = make_inputs(x)
    y = np.asarray(y)
    lengths = [leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(x)]
    if y.ndim == 0 or not lengths or set(lengths) != {y.shape[0]}:
        raise ValueError(
            f"A batch needs as many inputs as labels and got {lengths} inputs for labels of shape "
            f"{list(y.shape)}; give both the same leading axis."
        )
    labels = np.issubdtype(y.dtype, np.integer)
    if y.ndim != (1 if labels or ways is not None else 2):
        raise ValueError(
            f"The batch has {y.dtype} y of shape {list(y.shape)}; give integer labels as [n] or "
            "float targets as [n, d]."
        )
    if not labels:
        if ways is not None:
            raise ValueError(
                f"Labels of {ways} ways must be integers and are {y.dtype}; convert them, or leave "
                "ways out for regression targets."
            )
        return Batch(x, make_inputs(y), jnp.ones(y.shape[0], jnp.float32))
    wrong = y[(y < 0) | (y >= (np.inf if ways is None else ways))]
    if wrong.size:
        problem = "negative" if ways is None else f"outside 0..{ways - 1} ({ways} ways)"
        raise ValueError(f"Label {wrong.flat[0]} is {problem}; number the classes from 0.")
    return Batch(x, jnp.asarray(y, jnp.int32), jnp.ones(y.shape[0], jnp.float32))


def make_episode(
    support_x: PyTree, support_y: Any, query_x: PyTree, query_y: Any, ways: int | None = None
) -> Episode:
    """Checks a user's own task: two :func:`make_batch` whose examples have the same shape.

    Args:
      support_x: inputs to learn from, a pytree of arrays ``[n, ...]``.
      support_y: their labels ``[n]`` or targets ``[n, d]``.
      query_x: inputs to be judged on, a pytree of arrays ``[m, ...]``.
      query_y: their labels ``[m]`` or targets ``[m, d]``.
      ways: the number of classes, as in :func:`make_batch`.

    Raises:
      ValueError: as :func:`make_batch`, or support and query examples differ in shape.
    """
    support = make_batch(support_x, support_y, ways)
    query = make_batch(query_x, query_y, ways)
    shapes = [jax.tree.map(lambda leaf: leaf.shape[1:], (b.x, b.y)) for b in (support, query)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"Support examples have shapes {shapes[0]} and query examples {shapes[1]} (inputs, "
            "labels); give both the same."
        )
    return Episode(support, query)


def known_number(value: int | Array) -> int | None:
    """The number, or ``None`` where it is traced and only known at run time."""
    try:
        return operator.index(value)
    except jax.errors.TracerIntegerConversionError:
        return None


def static_places(name: str, value: int | Array, maximum: int | None) -> int:
    """How many places the shape has: ``maximum``, or ``value`` itself where that is ``None``.

    Raises:
      ValueError: the value is below 1, above the maximum, or traced where there is none.
    """
    known = known_number(value)
    if known is not None and known < 1:
        raise ValueError(f"An episode needs at least one of its {name} and got {known}; raise it.")
    if maximum is None:
        if known is None:
            raise ValueError(f"The number of {name} is traced; give max_{name} for a static shape.")
        return known
    if maximum < (known or 1):
        raise ValueError(f"max_{name}={maximum} is below {name}={known or 1}; raise it.")
    return maximum


def _distinct(key: Key, bound: int, count: Array, draws: int) -> Array:
    """``draws`` different integers below ``count <= bound``; those after ``count`` mean nothing.

    The largest of ``bound`` uniform scores: the first few do not depend on how many are drawn.
    """
    scores = jax.random.uniform(key, (bound,), jnp.float32)
    scores = jnp.where(jnp.arange(bound, dtype=jnp.int32) < count, scores, -1)
    picks = jax.lax.top_k(scores, min(draws, bound))[1]
    return jnp.pad(picks, (0, draws - picks.shape[0]))


def _turn(image: Array, quarters: Array) -> Array:
    """Turns ``[s, s, channels]`` counter-clockwise, as ``jnp.rot90``, by ``quarters`` in 0..3."""
    return jnp.select(
        [quarters == r for r in range(TURNS)], [jnp.rot90(image, r) for r in range(TURNS)]
    )


def _batch(x: Array, ways: int | Array, each: int | Array) -> Batch:
    """Scales uint8 ``[slots, places, ...]`` and marks the first ``ways`` x ``each`` as real."""
    slots, places = x.shape[:2]
    way = jnp.arange(slots, dtype=jnp.int32)[:, None]
    place = jnp.arange(places, dtype=jnp.int32)[None]
    real = (way < jnp.asarray(ways, jnp.int32)) & (place < jnp.asarray(each, jnp.int32))
    y = jnp.where(real, way, 0).reshape(-1)
    mask = real.reshape(-1).astype(jnp.float32)
    # XLA turns a division into this product, and jit shall not change a bit.
    x = x.reshape(slots * places, *x.shape[2:]).astype(jnp.float32) * np.float32(1 / 255)
    return Batch(x * jnp.expand_dims(mask, range(1, x.ndim)), y, mask)
