"""The random streams of a run: all of its keys, by name.

With jax's default generator ``split(key)[i]`` *is* ``fold_in(key, i)``, so a key that is both split
and folded gives the same randomness twice. Here, as everywhere in jaxmeta, a key is either split or
folded, never both.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.types import Array, Key


class Streams(NamedTuple):
    """The keys of a run, distinct by construction.

    Attributes:
      init: draws the initial parameters.
      train: all randomness of training; :func:`task_keys` folds the step into it.
      test: draws the test episodes; the evaluation folds each one's number into it.
      valid: draws the validation episodes.
      train_episodes: draws the evaluation episodes of the training split.
      carry: draws what tasks carry into the first step.
    """

    init: Key
    train: Key
    test: Key
    valid: Key
    train_episodes: Key
    carry: Key


def streams(seed: int, evaluation_seed: int = 0) -> Streams:
    """The keys of a run.

    The episodes of an evaluation depend on the evaluation's seed alone, so every run and every
    method is evaluated on the same ones. Equal seeds are safe: each stream has its own place.

    Args:
      seed: seed of the training.
      evaluation_seed: seed of the evaluation episodes.

    >>> keys = streams(seed=0, evaluation_seed=0)
    >>> len({jax.random.key_data(key).tobytes() for key in keys})
    6
    """
    places = len(Streams._fields)
    training = Streams(*jax.random.split(jax.random.key(seed), places))
    evaluation = Streams(*jax.random.split(jax.random.key(evaluation_seed), places))
    return evaluation._replace(init=training.init, train=training.train, carry=training.carry)


class TaskKeys(NamedTuple):
    """The keys of one outer step.

    Attributes:
      sample: ``[tasks]``, keys that draw the tasks.
      loss: ``[tasks]``, keys passed to the losses of the tasks.
      combine: key passed to the estimator's ``combine``.
    """

    sample: Key
    loss: Key
    combine: Key


def task_keys(key: Key, step: Array | int, tasks: int) -> TaskKeys:
    """The keys of an outer step: a function of the run's key and the step alone.

    The tasks of a step are the same on whichever device or host they are drawn.

    Args:
      key: the training key, which is folded.
      step: number of the outer step.
      tasks: number of tasks in the step.

    >>> task_keys(jax.random.key(0), 3, tasks=4).sample.shape
    (4,)
    """
    fold = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
    # Each key is made separately, so a device that needs only its own makes no others.
    step_key, place = jax.random.fold_in(key, step), 2 * jnp.arange(tasks)
    return TaskKeys(
        fold(step_key, place), fold(step_key, place + 1), jax.random.fold_in(step_key, 2 * tasks)
    )
