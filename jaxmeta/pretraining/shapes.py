"""The check of shapes that losses have in common."""

import re

import jax.numpy as jnp

from jaxmeta.types import Array


def check_shapes(expected: str, *arrays: Array) -> None:
    """Raises ``ValueError`` unless arrays have the expected shapes.

    Args:
      expected: names and shapes in the order of the arrays, as in ``"first [n, d] and mask [n]"``;
        axes of one name have one length.
      *arrays: the arrays, which may be traced, as their values are not looked at.

    >>> check_shapes("first [n, d] and mask [n]", jnp.ones((3, 2)), jnp.ones(3))
    """
    named = re.findall(r"(\w+) \[(.*?)\]", expected)
    shapes = [jnp.shape(array) for array in arrays]
    lengths: dict[str, int] = {}

    def fits(axes: list[str], shape: tuple[int, ...]) -> bool:
        return len(axes) == len(shape) and all(
            lengths.setdefault(axis, length) == length
            for axis, length in zip(axes, shape, strict=True)
        )

    pairs = list(zip(named, shapes, strict=True))
    if not all(fits(axes.split(", "), shape) for (_, axes), shape in pairs):
        given = ", ".join(f"{name} {shape}" for (name, _), shape in pairs)
        raise ValueError(f"The shapes are {given}: give {expected}.")
