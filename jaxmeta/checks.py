"""Checks of arguments that all parts of the library share."""

import operator
from typing import Any


def check_count(name: str, value: Any, least: int = 0) -> None:
    """Raises ``ValueError`` unless a count is a whole number of at least ``least``.

    Args:
      name: name of the count, as the user knows it.
      value: the count.
      least: the smallest allowed count.
    """
    try:
        enough = operator.index(value) >= least
    except TypeError:
        enough = False
    if not enough:
        shown = repr(value) if isinstance(value, str) else value
        raise ValueError(f"{name} is {shown}: give a whole number, {least} or more.")


def check_sizes(sizes: Any) -> None:
    """Raises ``ValueError`` unless the sizes of layers are a list of positive whole numbers."""
    if isinstance(sizes, str) or not hasattr(sizes, "__iter__"):
        raise ValueError(f"The sizes of layers are {sizes!r}: give a list of them, as in [512].")
    for size in sizes:
        check_count("A layer's size", size, least=1)


def check_positive(name: str, value: float) -> None:
    """Raises ``ValueError`` unless a number is positive.

    Args:
      name: name of the number, as the user knows it.
      value: the number.
    """
    try:
        positive = bool(value > 0)
    except TypeError:
        positive = False
    if not positive:
        shown = repr(value) if isinstance(value, str) else value
        raise ValueError(f"{name} is {shown}: give a positive number.")
