"""Counts the multiplications and additions of a traced function, in products and convolutions.

Elementwise work and sums are not counted: in these networks they are a small part, and no two
libraries do the same amount of them.
"""

import math
from collections.abc import Iterator
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn


def count(jaxpr: ClosedJaxpr | Jaxpr) -> int:
    """The operations of a jaxpr; a multiplication and an addition count as two.

    The body of a scan counts once per iteration, and a conditional as much as its costliest branch.
    A convolution is counted by its definition, including products with its padding.

    Raises:
      ValueError: there is a while loop, whose number of iterations is unknown.
    """
    inner = jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
    return sum(_of_equation(equation) for equation in inner.eqns)


def _of_equation(equation: JaxprEqn) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), (batched, _) = params["dimension_numbers"]
        free = min(map(_rank, equation.invars)) - len(contracted) - len(batched)
        if not free or not contracted:
            # A product with a vector is a sum, and one of two vectors is elementwise.
            return 0
        return 2 * _size(equation.outvars[0]) * _extent(equation.invars[0], contracted)
    if name == "conv_general_dilated":
        # Each output is a sum over the kernel's positions and its input channels, which belong to
        # one group; this holds for groups of features and of the batch.
        _, inputs, *places = params["dimension_numbers"].rhs_spec
        return 2 * _size(equation.outvars[0]) * _extent(equation.invars[1], (inputs, *places))
    if name == "convolution_map":
        # The three maps of jaxmeta's convolution cost the same: the kernel at each position of z.
        a, b, out = *equation.invars, equation.outvars[0]
        kernel, z = {"output": (b, out), "input": (a, b), "kernel": (out, b)}[params["gives"]]
        return 2 * _size(kernel) * _extent(z, (1, 2, 3))
    if name == "while":
        raise ValueError("A while loop has no known number of rounds: write it as a scan.")
    counts = [count(jaxpr) for jaxpr in _jaxprs(params)]
    if name == "cond":
        return max(counts)
    return sum(counts) * (params["length"] if name == "scan" else 1)


def _jaxprs(params: dict[str, Any]) -> Iterator[ClosedJaxpr | Jaxpr]:
    """The jaxprs among an equation's parameters: of calls, rematerializations, loops, branches."""
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, ClosedJaxpr | Jaxpr):
                yield item


def _rank(variable: Any) -> int:
    return len(variable.aval.shape)


def _size(variable: Any) -> int:
    return math.prod(variable.aval.shape)


def _extent(variable: Any, axes: Any) -> int:
    return math.prod(variable.aval.shape[axis] for axis in axes)
