"""Samplers that know the place of a task in its step, and so can take several tasks in turn."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from jaxmeta.types import Array, Key, PyTree, Sampler


@dataclasses.dataclass(frozen=True, eq=False)
class PlacedSampler:
    """A sampler whose tasks depend on their place among those that are drawn.

    The outer loop and the evaluator number the tasks that they draw. Called like any other sampler,
    it draws for a place at random.

    Attributes:
      at: ``(data, key, place) -> task``; places ``places`` apart are alike.
      places: the number of places that differ.
    """

    at: Callable[[PyTree, Key, Array], Any]
    places: int

    def __call__(self, data: PyTree, key: Key) -> Any:
        """Draws a task for a place at random."""
        place_key, task_key = jax.random.split(key)
        return self.at(data, task_key, jax.random.randint(place_key, (), 0, self.places))


def at_place(sample: Sampler) -> Callable[[PyTree, Key, Array], Any]:
    """``(data, key, place) -> task``, for any sampler; most do not care about the place.

    >>> import jax.numpy as jnp
    >>> at_place(lambda data, key: data)(3, jax.random.key(0), 7)
    3
    >>> in_turn = PlacedSampler(lambda data, key, place: data[place % 2], places=2)
    >>> [int(at_place(in_turn)(jnp.array([8, 9]), jax.random.key(0), place)) for place in range(3)]
    [8, 9, 8]
    """
    if isinstance(sample, PlacedSampler):
        return sample.at
    return lambda data, key, place: sample(data, key)


def changed_tasks(
    sample: Sampler,
    change: Callable[[PyTree, PyTree], Any],
    inner: Callable[[PyTree], PyTree] = lambda data: data,
) -> Sampler:
    """Draws tasks and changes each, at the places where ``sample`` draws them.

    Args:
      sample: draws a task.
      change: ``(data, task) -> task``.
      inner: the part of the data that ``sample`` takes; all of it by default.

    >>> doubled = changed_tasks(lambda data, key: data, lambda data, task: 2 * task)
    >>> doubled(3, jax.random.key(0))
    6
    """
    if isinstance(sample, PlacedSampler):

        def at(data: PyTree, key: Key, place: Array) -> Any:
            return change(data, sample.at(inner(data), key, place))

        return PlacedSampler(at, sample.places)
    return lambda data, key: change(data, sample(inner(data), key))
