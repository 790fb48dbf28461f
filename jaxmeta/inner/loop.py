"""What an inner loop is, and what a learned optimizer."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import optax

from jaxmeta.types import Array, Key, Metrics, PyTree

InnerLoss = Callable[[PyTree, Key], Array]
"""``(fast, key) -> scalar``: the support loss as a function of the leaves that adapt."""


class Run(Protocol):
    """Adapts to one task."""

    def __call__(
        self, loss: InnerLoss, fast: PyTree, hyper: PyTree, key: Key
    ) -> tuple[PyTree, Metrics]:
        """Returns the adapted leaves and metrics of the adaptation, usually one value per step."""


class InnerLoop(NamedTuple):
    """How leaves adapt to a task.

    Attributes:
      init: ``(key, fast) -> hyper``, whatever the outer loop may learn about adapting; ``()`` if
        there is nothing to learn.
      run: see :class:`Run`.
      path: like ``run``, but returns the leaves ``[T + 1, ...]``, where row t is the result of
        ``run`` after t of its T steps; ``None`` if the loop has no path.
    """

    init: Callable[[Key, PyTree], PyTree]
    run: Run
    path: Run | None = None


class LearnedOptimizer(NamedTuple):
    """Optax transformations that have weights to be learned, for :func:`unroll`.

    Attributes:
      hyper: ``(key, fast) -> weights``, the initial weights.
      optimizer: ``(weights) -> transformation``. It may be used in any training loop.
    """

    hyper: Callable[[Key, PyTree], PyTree]
    optimizer: Callable[[PyTree], optax.GradientTransformation]
