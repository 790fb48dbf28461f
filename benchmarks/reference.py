"""What the comparison needs from jax, computed in a process of its own."""

import jax

from benchmarks import flops
from benchmarks.implementations import jaxmeta
from benchmarks.machine import Device, measure_device
from benchmarks.problem import Arrays, Data, Problem
from jaxmeta.gradients import estimate
from jaxmeta.types import PyTree


def make_reference(problem: Problem, data: Data) -> tuple[Arrays, int, Device]:
    """What every implementation is given, and what it is measured by.

    Returns:
      The initial parameters, as jaxmeta draws them; the useful operations of one meta-gradient; the
      device.
    """
    arguments = jaxmeta.make_arguments(problem, data)
    return (
        jaxmeta.as_arrays(arguments[0]),
        useful_flops(problem, arguments),
        measure_device(),
    )


def useful_flops(problem: Problem, arguments: PyTree) -> int:
    """The operations of one meta-gradient in reverse mode with direct convolutions."""
    objective = jaxmeta.make_objective(problem, jaxmeta.make_model(problem), "reverse")
    return flops.count(jax.make_jaxpr(estimate(objective, chunk=1))(*arguments))
