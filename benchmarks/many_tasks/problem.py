"""What is computed: PCGrad's gradient of tasks that share a conv4. Plain NumPy."""

import importlib
from typing import NamedTuple

import numpy as np

from benchmarks.problem import Arrays, Implementation
from benchmarks.workers import burst, timed

CLASSES = 5
SHARED = ("model/encoder",)


class Tasks(NamedTuple):
    """A batch of each task: images ``[tasks, n, side, side, 3]`` and labels ``[tasks, n]``."""

    x: np.ndarray
    y: np.ndarray


def make_tasks(tasks: int, size: int, side: int) -> Tasks:
    """Noise: the time of a step does not depend on what is learned."""
    random = np.random.default_rng(0)
    x = random.normal(size=(tasks, size, side, side, 3)).astype(np.float32)
    return Tasks(x, random.integers(CLASSES, size=(tasks, size)))


def conflicting(tasks: Tasks, parameters: Arrays) -> tuple[Tasks, Arrays]:
    """Two tasks of the same images with opposite heads, so that their gradients conflict."""
    head = "heads/head/kernel"
    x, y = (np.repeat(array[:1], 2, axis=0) for array in tasks)
    kernel = parameters[head][0]
    return Tasks(x, y), {**parameters, head: np.stack([kernel, -kernel])}


class Contestant:
    """An implementation in its process, a module of this package."""

    def __init__(self, name: str, tasks: Tasks, parameters: Arrays):
        """Builds it."""
        module = importlib.import_module(f"benchmarks.many_tasks.{name}")
        self._implementation: Implementation = module.build(tasks, parameters)

    def first(self) -> tuple[float, Arrays]:
        """Seconds of the first call, and the gradient."""
        seconds, gradient = timed(self._implementation.step)
        return seconds, self._implementation.arrays(gradient)

    def again(self) -> float:
        """Seconds of another call, the mean over a burst if calls are short."""
        return burst(self._implementation.step)
