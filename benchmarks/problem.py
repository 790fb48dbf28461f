"""What is computed: one meta-gradient, described without any library.

Everything here is plain numpy, so that the process of one library need not import another.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Arrays = dict[str, np.ndarray]
"""Arrays by the names of jaxmeta's parameters, as in ``"block0/kernel"``; kernels are HWIO."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """The gradient of the mean query loss over tasks with respect to the initial parameters.

    Attributes:
      learner: ``"maml"``, ``"fomaml"`` or ``"protonet"``.
      model: ``"conv4"`` with cross-entropy on images, or ``"mlp"``, two hidden layers of 40, with
        squared error on sinusoids.
      ways: classes of a task; 1 for sinusoids.
      shots: support examples per class.
      queries: query examples per class.
      tasks: tasks of the meta-batch.
      inner_steps: steps of gradient descent on the whole support set; unused by protonet.
      filters: channels of each convolution.
      image_size: side of the images in pixels; they have one channel.
      learning_rate: learning rate of the inner steps, large enough for them to affect the gradient
        visibly, so that a wrong step fails the check.
    """

    learner: str = "maml"
    model: str = "conv4"
    ways: int = 5
    shots: int = 1
    queries: int = 15
    tasks: int = 8
    inner_steps: int = 5
    filters: int = 64
    image_size: int = 28
    learning_rate: float = 0.1

    def __post_init__(self) -> None:
        """Raises ``ValueError`` when a number is too small."""
        least = {field.name: 1 for field in dataclasses.fields(self) if field.type is int}
        # The inner loop may be empty; four halvings must leave a pixel.
        for name, smallest in {**least, "inner_steps": 0, "image_size": 16}.items():
            if getattr(self, name) < smallest:
                raise ValueError(f"{name} is {getattr(self, name)}: give {smallest} or more.")


class Data(NamedTuple):
    """A meta-batch, float32: ``x`` is ``[tasks, n, ...]``.

    Labels ``y`` are int32 ``[tasks, n]``, sorted, or float32 targets ``[tasks, n, 1]``.
    """

    support_x: np.ndarray
    support_y: np.ndarray
    query_x: np.ndarray
    query_y: np.ndarray


class Implementation(NamedTuple):
    """How one library solves a problem.

    Attributes:
      step: computes the meta-gradient and waits for it; the gradient is in the library's own form.
      arrays: turns what ``step`` returned into arrays that can be compared.
    """

    step: Callable[[], Any]
    arrays: Callable[[Any], Arrays]


def make_data(problem: Problem) -> Data:
    """Tasks of noise, or of sine waves: the time of a step does not depend on what is learned.

    No two adjacent pixels of noise are equal; libraries would differentiate their maximum
    differently.
    """
    random = np.random.default_rng(0)
    tasks = problem.tasks
    if problem.model == "mlp":
        amplitude = random.uniform(0.1, 5, (tasks, 1, 1))
        phase = random.uniform(0, np.pi, (tasks, 1, 1))
        sets: list[np.ndarray] = []
        for n in (problem.shots, problem.queries):
            x = random.uniform(-5, 5, (tasks, n, 1))
            sets += [x.astype(np.float32), (amplitude * np.sin(x - phase)).astype(np.float32)]
        return Data(*sets)
    side, sets = problem.image_size, []
    for each in (problem.shots, problem.queries):
        n = problem.ways * each
        x = random.uniform(0, 1, (tasks, n, side, side, 1)).astype(np.float32)
        y = np.repeat(np.arange(problem.ways, dtype=np.int32), each)
        sets += [x, np.tile(y, (tasks, 1))]
    return Data(*sets)


def relative_difference(gradient: Arrays, reference: Arrays) -> float:
    """The norm of two gradients' difference, over all leaves, relative to the reference's norm.

    Raises:
      ValueError: the leaves differ in name or shape.
    """
    shapes = [{name: leaf.shape for name, leaf in g.items()} for g in (gradient, reference)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"A gradient has the leaves {shapes[0]} where {shapes[1]} are expected: return every "
            "leaf in the layout of the initial parameters."
        )
    both = [
        np.concatenate([g[name].astype(np.float64).ravel() for name in sorted(reference)])
        for g in (gradient, reference)
    ]
    return float(np.linalg.norm(both[0] - both[1]) / np.linalg.norm(both[1]))
