"""How gains depend on the sizes of tasks, with intervals by bootstrap over rotations."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000

Statistic = Callable[[np.ndarray], np.ndarray]
"""``counts [b, rotations] -> values [b]``, where a rotation counts as often as its count says."""


class Figure(NamedTuple):
    """A value and its interval: 2.5 % of the resamples lie below ``low``, and above ``high``."""

    value: float
    low: float
    high: float


def slope(gains: np.ndarray, sizes: np.ndarray) -> Statistic:
    r"""The slope of gains on the logarithm of the size, with a constant for each task.

    .. math:: g_{rt} = a_t + b \log_{10} n_{rt} + \varepsilon_{rt}

    A task is compared with itself in other rotations, so its difficulty does not matter.

    Args:
      gains: ``[rotations, tasks]``.
      sizes: numbers of training examples ``[rotations, tasks]``.

    Returns:
      A function of counts; b is in units of the gains for each factor of ten.
    """
    x = np.log10(sizes)
    # Moving both by constants of the task changes nothing, but keeps the digits of differences.
    x, y = x - x.mean(axis=0), gains - gains.mean(axis=0)

    def of(counts: np.ndarray) -> np.ndarray:
        total = counts.sum(axis=1, keepdims=True)
        mean_x, mean_y = counts @ x / total, counts @ y / total
        within = counts @ (x * y) - total * mean_x * mean_y
        spread = counts @ (x * x) - total * mean_x**2
        above, below = within.sum(axis=1), spread.sum(axis=1)
        # A resample of one rotation only has tasks of one size each, and no slope.
        return np.where(below > 1e-9, above / np.where(below > 1e-9, below, 1), np.nan)

    return of


def mean_of(values: np.ndarray) -> Statistic:
    """The mean over rotations of a value of each, ``[rotations]``."""
    return lambda counts: counts @ values / counts.sum(axis=1)


def difference(one: Statistic, other: Statistic) -> Statistic:
    """The first less the second, of the same resamples."""
    return lambda counts: one(counts) - other(counts)


def at_sizes(values: np.ndarray, sizes: np.ndarray, places: slice) -> np.ndarray:
    """The mean of each rotation over the tasks that have certain places by size.

    Args:
      values: ``[rotations, tasks]``.
      sizes: ``[rotations, tasks]``.
      places: which, from the smallest: ``slice(4)`` for the poorest four.
    """
    order = np.argsort(sizes, axis=1, kind="stable")
    return np.take_along_axis(values, order, axis=1)[:, places].mean(axis=1)


def bootstrapped(statistic: Statistic, rotations: int) -> Figure:
    """The statistic, and its interval over resampled rotations, which are the same in every call.

    So the :func:`difference` of two statistics is paired. With few rotations such intervals are
    too short.
    """
    drawn = np.random.default_rng(0).integers(rotations, size=(RESAMPLES, rotations))
    counts = np.stack([(drawn == each).sum(axis=1) for each in range(rotations)], axis=1)
    value = float(statistic(np.ones((1, rotations)))[0])
    low, high = np.nanpercentile(statistic(counts.astype(float)), [2.5, 97.5])
    return Figure(value, float(low), float(high))
