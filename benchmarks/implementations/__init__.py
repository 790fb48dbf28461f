"""One library per file, each with ``build(problem, data, parameters) -> Implementation``."""

import importlib
from collections.abc import Sequence

from benchmarks.problem import Arrays, Data, Implementation, Problem

OURS = "jaxmeta"
_BY_GRADIENT = ("higher", "torchopt", "torch_func", "torch_func_vmap", "xla_convolution")
RIVALS = {
    "maml": _BY_GRADIENT,
    "fomaml": _BY_GRADIENT,
    "protonet": ("torch", "xla_convolution"),
}
"""The implementations that each learner is compared with."""


def rivals(problem: Problem, chosen: Sequence[str] | None) -> list[str]:
    """The rivals to compare with: the chosen ones, else all that a problem has.

    Raises:
      ValueError: one of the chosen rivals does not solve this problem.
    """
    # Without a convolution, "xla_convolution" would be our own implementation.
    known = [
        name
        for name in RIVALS[problem.learner]
        if problem.model == "conv4" or name != "xla_convolution"
    ]
    for name in chosen or ():
        if name not in known:
            raise ValueError(
                f"{problem.learner} on {problem.model} has no implementation {name!r}: choose from "
                f"{', '.join(known)}."
            )
    return known if chosen is None else list(chosen)


def build(name: str, problem: Problem, data: Data, parameters: Arrays) -> Implementation:
    """Builds an implementation, importing its library and no other."""
    module = importlib.import_module(f"benchmarks.implementations.{name}")
    implementation: Implementation = module.build(problem, data, parameters)
    return implementation
