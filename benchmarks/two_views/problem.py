"""What is computed: the gradient of SimCLR's loss for given views. Plain NumPy."""

import importlib
from typing import NamedTuple

import numpy as np

from benchmarks.problem import Arrays, Implementation
from benchmarks.workers import burst, timed

TEMPERATURE = 0.2
HIDDEN, OUTPUTS = 512, 128
"""Sizes of the projector's layers."""


class Views(NamedTuple):
    """Batches of images in two views, float32 ``[batches, n, side, side, 3]`` each.

    Images of a batch are compared with each other, and the loss is the mean over batches.
    """

    first: np.ndarray
    second: np.ndarray


def make_views(batches: int, size: int, side: int) -> Views:
    """Noise: the time of a step does not depend on what is learned."""
    random = np.random.default_rng(0)
    return Views(*random.uniform(size=(2, batches, size, side, side, 3)).astype(np.float32))


class Contestant:
    """An implementation in its process, a module of this package."""

    def __init__(self, name: str, views: Views, parameters: Arrays):
        """Builds it."""
        module = importlib.import_module(f"benchmarks.two_views.{name}")
        self._implementation: Implementation = module.build(views, parameters)

    def first(self) -> tuple[float, Arrays]:
        """Seconds of the first call, and the gradient."""
        seconds, gradient = timed(self._implementation.step)
        return seconds, self._implementation.arrays(gradient)

    def again(self) -> float:
        """Seconds of another call, the mean over a burst if calls are short."""
        return burst(self._implementation.step)
