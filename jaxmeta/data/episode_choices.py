"""Which examples an episode has: some classes, and different examples of each."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.checks import check_count
from jaxmeta.data.choices import Choice, Choose, ClassData
from jaxmeta.data.sampling import between, distinct
from jaxmeta.data.sizes import known_number, most_and_range, static_places
from jaxmeta.types import UNLABELED, Array, Batch, Episode, Key


def episode_choices(
    counts: np.ndarray, names: Sequence[str], variants: int
) -> Callable[..., Choose]:
    """How episodes are drawn from classes with these numbers of examples.

    Args:
      counts: integers ``[classes]``, the number of examples of each class.
      names: what each class is called, for error messages.
      variants: the number of classes made from each one.

    Returns:
      A function that takes the arguments of ``episodes`` of :func:`~jaxmeta.data.class_source` and
      returns a :data:`Choose` in place of a sampler.
    """
    # One bound for all classes keeps shapes static; what is drawn from a smaller class stays below
    # its own count.
    largest = int(counts.max(initial=0))

    def episodes(
        ways: int | Array | tuple[int, int],
        shots: int | Array | tuple[int, int],
        queries: int,
        max_ways: int | None = None,
        max_shots: int | None = None,
        imbalanced: bool = False,
        unlabeled: int = 0,
        distractors: int = 0,
        outside: int = 0,
    ) -> Choose:
        most_of_ways, ways_range = most_and_range("ways", ways)
        most_of_shots, shots_range = most_and_range("shots", shots)
        slots_ways = static_places("ways", most_of_ways, max_ways)
        slots_shots = static_places("shots", most_of_shots, max_shots)
        queries = static_places("queries", queries, None)
        check_count("unlabeled", unlabeled)
        check_count("distractors", distractors)
        check_count("outside", outside)
        if distractors and not unlabeled:
            raise ValueError(
                f"distractors is {distractors} but unlabeled is 0; give the number of unlabeled "
                "examples of each class."
            )
        if imbalanced and not shots_range:
            raise ValueError(
                f"shots is {shots}, but an imbalanced episode draws those of each class; give a "
                "range, as in (1, 5)."
            )
        most_ways = known_number("ways", most_of_ways) or slots_ways
        most_shots = known_number("shots", most_of_shots) or slots_shots
        needed = most_ways + distractors + (slots_ways - most_ways + 1 if outside else 0)
        if needed > variants * len(counts):
            others = f" and {distractors} distractors" if distractors else ""
            others += " and queries from outside" if outside else ""
            raise ValueError(
                f"An episode of {most_ways} ways{others} needs {needed} classes "
                f"and this split has {variants * len(counts)}; ask for fewer, or give it more."
            )
        poorest = int(np.argmin(counts))
        needed = most_shots + queries + unlabeled
        if needed > counts[poorest]:
            others = f", {unlabeled} unlabeled" if unlabeled else ""
            raise ValueError(
                f"An episode of {most_shots} shots{others} and {queries} queries needs {needed} "
                f"examples of each class and {names[poorest]!r} has {counts[poorest]}; ask for "
                "fewer, or leave the class out."
            )

        def choose(data: ClassData, key: Key) -> Choice:
            class_key, example_key, ways_key, shots_key, outside_key = jax.random.split(key, 5)
            classes, shown = variants * data.counts.shape[0], slots_ways + distractors
            # Distractors come first, as padded ways may exceed the number of classes.
            chosen = distinct(class_key, classes, classes, shown)
            base, variant = chosen // variants, chosen % variants
            # A key per class, so that its examples do not depend on how many classes there are.
            keys = jax.vmap(jax.random.fold_in, (None, 0))(example_key, jnp.arange(shown))
            picks = jax.vmap(distinct, (0, None, 0, None))(
                keys, largest, data.counts[base], queries + slots_shots + unlabeled
            )
            rows = data.starts[base][:, None] + picks
            of_ways, of_shots = most_of_ways, most_of_shots
            if ways_range:
                of_ways = between(ways_key, ways_range)
            if shots_range:
                of_shots = between(shots_key, shots_range, (slots_ways, 1) if imbalanced else ())
            # Shots come last, as padded ones may exceed the number of examples.
            first = queries + unlabeled
            query = _part(rows[distractors:, :queries], variant[distractors:], of_ways, queries)
            support = _part(rows[distractors:, first:], variant[distractors:], of_ways, of_shots)
            if unlabeled:
                unknown = _part(rows[:, queries:first], variant, distractors + of_ways, unlabeled)
                unknown = unknown._replace(y=jnp.full_like(unknown.y, UNLABELED))
                support = jax.tree.map(lambda *both: jnp.concatenate(both), support, unknown)
            if outside:
                strangers = _outside(data, outside_key, chosen, variants, outside)
                strangers = strangers._replace(y=jnp.full(outside, slots_ways, jnp.int32))
                query = jax.tree.map(lambda *both: jnp.concatenate(both), query, strangers)
            rows, variant = map(jnp.concatenate, zip(support.x, query.x, strict=True))
            blank = Episode(support._replace(x=()), query._replace(x=()))
            return Choice(rows, variant if variants > 1 else None, blank)

        return choose

    return episodes


def _outside(data: ClassData, key: Key, chosen: Array, variants: int, count: int) -> Batch:
    """Examples of any classes but the chosen ones, as the rows of :func:`_part`."""
    class_key, example_key = jax.random.split(key)
    classes = variants * data.counts.shape[0]
    others = jnp.zeros(classes).at[chosen].set(-jnp.inf)
    drawn = jax.random.categorical(class_key, others, shape=(count,)).astype(jnp.int32)
    base, variant = drawn // variants, drawn % variants
    places = jax.random.randint(example_key, (count,), 0, data.counts[base], jnp.int32)
    return Batch((data.starts[base] + places, variant), drawn, jnp.ones(count, jnp.float32))


def _part(rows: Array, variant: Array, ways: int | Array, each: int | Array) -> Batch:
    """Rows ``[slots, places]`` one after the other; the first ``ways`` x ``each`` are real.

    The inputs of this batch are the rows and the variants of their examples.
    """
    slots, places = rows.shape
    way = jnp.arange(slots, dtype=jnp.int32)[:, None]
    place = jnp.arange(places, dtype=jnp.int32)[None]
    real = (way < jnp.asarray(ways, jnp.int32)) & (place < jnp.asarray(each, jnp.int32))
    rows, variant, y = (
        jnp.where(real, values, empty).reshape(-1)
        for values, empty in ((rows, -1), (variant[:, None], 0), (way, 0))
    )
    return Batch((rows, variant), y, real.reshape(-1).astype(jnp.float32))
