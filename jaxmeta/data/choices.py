"""Which images an episode has, drawn without looking at one."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.checks import check_count
from jaxmeta.data.sizes import known_number, most_and_range, static_places
from jaxmeta.types import Array, Batch, Episode, Key, PyTree

TURNS = 4


class ClassData(NamedTuple):
    """Images sorted by class.

    Attributes:
      images: uint8 ``[n, height, width, channels]``; ``()`` where they are read when needed.
      starts: int32 ``[classes]``, where each class begins in ``images``.
      counts: int32 ``[classes]``, how many images each class has.
    """

    images: PyTree
    starts: Array
    counts: Array


class Choice(NamedTuple):
    """Which images an episode has, and all else of it but their pixels.

    Attributes:
      rows: int32 ``[m]``, the images: first those of the support set, last those of the query set,
        the same ones where the two sets are one. -1 for padding.
      quarters: int32 ``[m]``, the quarter turns of each; ``None`` where no image is turned.
      blank: the episode, its inputs ``x`` being ``()``.
    """

    rows: Array
    quarters: Array | None
    blank: Episode


Choose = Callable[[ClassData, Key], Choice]
"""``(data, key) -> Choice``, pure; it looks at ``starts`` and ``counts`` and at no image."""


def class_data(images: PyTree, counts: np.ndarray) -> ClassData:
    """Images sorted by class, so many of each."""
    return ClassData(
        images=images,
        starts=jnp.asarray(np.cumsum(counts) - counts, jnp.int32),
        counts=jnp.asarray(counts, jnp.int32),
    )


def class_choices(
    counts: np.ndarray, names: Sequence[str], rotations: bool = False
) -> tuple[Callable[..., Choose], Callable[[int], Choose]]:
    """How episodes, and ordinary batches, are drawn from classes of so many images.

    Args:
      counts: integers ``[classes]``, how many images each class has.
      names: what each class is called, for error messages.
      rotations: quarter turns are classes of their own.

    Returns:
      ``episodes`` and ``examples``, which take what those of :func:`class_source` take and return
      a :data:`Choose` in place of a sampler.
    """
    turns = TURNS if rotations else 1
    # One bound for all classes keeps shapes static; a smaller class never reaches beyond its count.
    largest, total = int(counts.max(initial=0)), int(counts.sum())

    def episodes(
        ways: int | Array | tuple[int, int],
        shots: int | Array | tuple[int, int],
        queries: int,
        max_ways: int | None = None,
        max_shots: int | None = None,
        imbalanced: bool = False,
        unlabeled: int = 0,
        distractors: int = 0,
    ) -> Choose:
        most_of_ways, ways_range = most_and_range("ways", ways)
        most_of_shots, shots_range = most_and_range("shots", shots)
        slots_ways = static_places("ways", most_of_ways, max_ways)
        slots_shots = static_places("shots", most_of_shots, max_shots)
        queries = static_places("queries", queries, None)
        check_count("unlabeled", unlabeled)
        check_count("distractors", distractors)
        if distractors and not unlabeled:
            raise ValueError(
                f"An episode has {distractors} distractors but nothing unlabeled to show of them; "
                "give unlabeled examples too."
            )
        if imbalanced and not shots_range:
            raise ValueError(
                f"An imbalanced episode draws each class's shots and got {shots} for all; give a "
                "range, as in (1, 5)."
            )
        most_ways = slots_ways if (known := known_number(most_of_ways)) is None else known
        most_shots = slots_shots if (known := known_number(most_of_shots)) is None else known
        if most_ways + distractors > turns * len(counts):
            others = f" and {distractors} distractors" if distractors else ""
            raise ValueError(
                f"An episode of {most_ways} ways{others} needs as many classes and this split has "
                f"{turns * len(counts)}; ask for fewer ways, or give it more classes (add some, or "
                "split them in other fractions)."
            )
        poorest = int(np.argmin(counts))
        needed = most_shots + queries + unlabeled
        if needed > counts[poorest]:
            others = f", {unlabeled} unlabeled" if unlabeled else ""
            raise ValueError(
                f"An episode of {most_shots} shots{others} and {queries} queries needs "
                f"{needed} images a class and {names[poorest]!r} has "
                f"{counts[poorest]}; ask for fewer or drop the class."
            )

        def choose(data: ClassData, key: Key) -> Choice:
            class_key, example_key = jax.random.split(key)
            classes, shown = turns * data.counts.shape[0], slots_ways + distractors
            # Distractors come first, as padded ways may be more than there are classes.
            chosen = _distinct(class_key, classes, jnp.int32(classes), shown)
            base, quarters = chosen // turns, chosen % turns
            # A key per class, so that its examples do not depend on how many classes there are.
            keys = jax.vmap(jax.random.fold_in, (None, 0))(example_key, jnp.arange(shown))
            picks = jax.vmap(_distinct, (0, None, 0, None))(
                keys, largest, data.counts[base], queries + slots_shots + unlabeled
            )
            rows = data.starts[base][:, None] + picks
            # Shots come last, as padded ones may be more than there are examples.
            of_ways, of_shots = most_of_ways, most_of_shots
            if ways_range:
                of_ways = _between(jax.random.fold_in(key, 1), ways_range, ())
            if shots_range:
                each = (slots_ways, 1) if imbalanced else ()
                of_shots = _between(jax.random.fold_in(key, 2), shots_range, each)
            first = queries + unlabeled
            query = _part(rows[distractors:, :queries], quarters[distractors:], of_ways, queries)
            support = _part(rows[distractors:, first:], quarters[distractors:], of_ways, of_shots)
            if unlabeled:
                unknown = _part(rows[:, queries:first], quarters, distractors + of_ways, unlabeled)
                unknown = unknown._replace(y=jnp.full_like(unknown.y, -1))
                support = jax.tree.map(lambda *both: jnp.concatenate(both), support, unknown)
            rows, quarters = map(jnp.concatenate, zip(support.x, query.x, strict=True))
            blank = Episode(support._replace(x=()), query._replace(x=()))
            return Choice(rows, quarters if turns > 1 else None, blank)

        return choose

    def examples(size: int) -> Choose:
        size = static_places("examples", size, None)

        def choose(data: ClassData, key: Key) -> Choice:
            row_key, turn_key = jax.random.split(key)
            rows = jax.random.randint(row_key, (size,), 0, total)
            y = turns * (jnp.searchsorted(data.starts, rows, side="right") - 1).astype(jnp.int32)
            quarters = jax.random.randint(turn_key, (size,), 0, turns) if turns > 1 else None
            if quarters is not None:
                y = y + quarters
            batch = Batch((), y, jnp.ones(size, jnp.float32))
            return Choice(rows, quarters, Episode(batch, batch))

        return choose

    return episodes, examples


def _between(key: Key, ends: tuple[int, int], shape: tuple[int, ...]) -> Array:
    return jax.random.randint(key, shape, ends[0], ends[1] + 1, jnp.int32)


def _distinct(key: Key, bound: int, count: Array, draws: int) -> Array:
    """``draws`` different integers below ``count <= bound``; those after ``count`` mean nothing.

    The largest of ``bound`` uniform scores: the first few do not depend on how many are drawn.
    """
    scores = jax.random.uniform(key, (bound,), jnp.float32)
    scores = jnp.where(jnp.arange(bound, dtype=jnp.int32) < count, scores, -1)
    picks = jax.lax.top_k(scores, min(draws, bound))[1]
    return jnp.pad(picks, (0, draws - picks.shape[0]))


def _part(rows: Array, quarters: Array, ways: int | Array, each: int | Array) -> Batch:
    """Rows ``[slots, places]`` one after the other, the first ``ways`` x ``each`` being real.

    The inputs of this batch are the rows and the quarter turns of their images.
    """
    slots, places = rows.shape
    way = jnp.arange(slots, dtype=jnp.int32)[:, None]
    place = jnp.arange(places, dtype=jnp.int32)[None]
    real = (way < jnp.asarray(ways, jnp.int32)) & (place < jnp.asarray(each, jnp.int32))
    rows, quarters, y = (
        jnp.where(real, values, empty).reshape(-1)
        for values, empty in ((rows, -1), (quarters[:, None], 0), (way, 0))
    )
    return Batch((rows, quarters), y, real.reshape(-1).astype(jnp.float32))
