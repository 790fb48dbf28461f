"""Drawing integers: from a range, and without replacement."""

import jax
import jax.numpy as jnp

from jaxmeta.types import Array, Key


def between(key: Key, ends: tuple[int, int], shape: tuple[int, ...] = ()) -> Array:
    """Uniform integers from a range, both ends included."""
    return jax.random.randint(key, shape, ends[0], ends[1] + 1, jnp.int32)


def distinct(key: Key, bound: int, count: int | Array, draws: int) -> Array:
    """``draws`` distinct integers below ``count <= bound``; those after ``count`` are meaningless.

    ``count`` may be traced, and the first few integers do not depend on how many are drawn. The
    cost grows with ``bound``.
    """
    # The indices of the largest of ``bound`` independent uniform scores are a uniform ordered draw
    # without replacement. Scores at and after ``count`` are pushed below all others.
    scores = jax.random.uniform(key, (bound,), jnp.float32)
    scores = jnp.where(jnp.arange(bound, dtype=jnp.int32) < count, scores, -1)
    picks = jax.lax.top_k(scores, min(draws, bound))[1]
    return jnp.pad(picks, (0, draws - picks.shape[0]))


def distinct_of_many(key: Key, count: int, draws: int) -> Array:
    """``draws <= count`` distinct integers below ``count``, at a cost independent of ``count``."""
    # Draw i is a rank among the numbers that are still free, so below count - i. With the numbers
    # taken so far sorted, s_0 < s_1 < ..., there are s_j - j free numbers below s_j, which never
    # decreases in j: the free number of rank r lies above exactly those s_j with s_j - j <= r.
    place = jnp.arange(draws, dtype=jnp.int32)
    ranks = jax.random.randint(key, (draws,), 0, count - place, jnp.int32)

    def draw(taken: Array, rank: Array) -> tuple[Array, Array]:
        number = rank + jnp.sum(taken - place <= rank, dtype=jnp.int32)
        return jnp.sort(taken.at[-1].set(number)), number  # the last one is not taken yet

    # Entries not yet taken are above everything.
    return jax.lax.scan(draw, jnp.full(draws, jnp.iinfo(jnp.int32).max), ranks)[1]
