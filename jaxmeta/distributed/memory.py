"""How many tasks to compute at a time, from the memory that one needs."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr

from jaxmeta.types import PyTree

CACHE = 72 * 2**20
"""Bytes that pass through a CPU's cache at little cost; found by measurement, see
docs/performance.md."""


def tasks_at_a_time(
    function: Callable[..., Any], *arguments: PyTree, tasks: int, budget: int | None = None
) -> int:
    """The largest number of tasks whose arrays fit into the budget together, at least one.

    Args:
      function: what is computed for one task.
      arguments: its arguments, or their shapes.
      tasks: number of tasks in total.
      budget: bytes; by default :func:`default_budget`.
    """
    available = default_budget() if budget is None else budget
    fitting = min(available / max(footprint(function, *arguments), 1), tasks)
    return max(int(fitting), 1)


def default_budget() -> float:
    """Half of an accelerator's memory; on a CPU, where memory is slow, what its cache can take."""
    if jax.default_backend() == "cpu":
        return CACHE
    statistics = jax.local_devices()[0].memory_stats() or {}
    return statistics.get("bytes_limit", math.inf) / 2


def footprint(function: Callable[..., Any], *arguments: PyTree) -> int:
    """Bytes of all intermediate values of a function, which is what its derivative keeps.

    Nothing is compiled or run: the function is traced, and the sizes of its intermediate values are
    added up. Where a custom rule determines what the derivative keeps, as in the mixed mode of
    :func:`jaxmeta.inner.unroll`, its inside counts once, however often it is repeated.
    """
    closed = jax.make_jaxpr(function)(*arguments)
    return sum(_kept_and_passing(closed.jaxpr))


def _kept_and_passing(jaxpr: Jaxpr) -> tuple[int, int]:
    """Bytes that a derivative keeps, and the most that it temporarily needs in addition."""
    kept = passing = 0
    for equation in jaxpr.eqns:
        inside = [_kept_and_passing(inner) for inner in _within(equation.params)]
        if equation.primitive.name in ("custom_vjp_call", "remat2", "checkpoint"):
            passing = max([passing, *(sum(both) for both in inside)])
            kept += _bytes(equation.outvars)
        elif inside:
            repeats = equation.params.get("length", 1)
            kept += repeats * max(k for k, _ in inside)
            passing = max([passing, *(p for _, p in inside)])
        else:
            kept += _bytes(equation.outvars)
    return kept, passing


def _within(params: dict[str, Any]) -> list[Jaxpr]:
    """The programs that an equation calls."""
    leaves = jax.tree.leaves(params, is_leaf=lambda leaf: isinstance(leaf, ClosedJaxpr | Jaxpr))
    return [
        leaf.jaxpr if isinstance(leaf, ClosedJaxpr) else leaf
        for leaf in leaves
        if isinstance(leaf, ClosedJaxpr | Jaxpr)
    ]


def _bytes(variables: list[Any]) -> int:
    total = 0
    for variable in variables:
        total += math.prod(variable.aval.shape) * getattr(variable.aval.dtype, "itemsize", 8)
    return total
