"""Adaptation by an inner loop, shared by learners that adapt networks or heads."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from jaxmeta.distributed.varying import varying_alike
from jaxmeta.inner import InnerLoop, InnerLoss, Run
from jaxmeta.types import Batch, Key, Metrics, PyTree


class Problem(NamedTuple):
    """What an inner loop has to solve for one task.

    Attributes:
      loss: the loss as a function of the leaves that adapt.
      start: these leaves before the first step.
      finish: ``(fast) -> adapted``, what the learner's ``adapt`` makes of the adapted leaves.
    """

    loss: InnerLoss
    start: PyTree
    finish: Callable[[PyTree], PyTree]


Adapt = Callable[..., tuple[PyTree, Metrics]]
"""``(params, state, support, key, *more) -> (adapted, metrics)``."""


def by_inner_loop(inner: InnerLoop, problem: Callable[..., Problem]) -> tuple[Adapt, Adapt | None]:
    """The functions ``adapt`` and ``path`` of a learner.

    Args:
      inner: the inner loop.
      problem: ``(params, state, support, *more) -> Problem``, where ``more`` is whatever else the
        two functions are called with. ``params["hyper"]``, if any, is for the inner loop.

    Returns:
      ``adapt`` and ``path``, the latter ``None`` if the inner loop has no path.
    """

    def solved(run: Run, each_step: bool) -> Adapt:
        def adapt(
            params: PyTree, state: PyTree, support: Batch, key: Key, *more: PyTree
        ) -> tuple[PyTree, Metrics]:
            params, state, support, key, *more = varying_alike(params, state, support, key, *more)
            loss, start, finish = problem(params, state, support, *more)
            fast, metrics = run(loss, start, params.get("hyper", ()), key)
            return jax.vmap(finish)(fast) if each_step else finish(fast), metrics

        return adapt

    path = None if inner.path is None else solved(inner.path, each_step=True)
    return solved(inner.run, each_step=False), path
