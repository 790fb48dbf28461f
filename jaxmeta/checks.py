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


def check_positive(name: str, value: float) -> None:
    """Raises ``ValueError`` unless a number is positive.

    Args:
      name: name of the number, as the user knows it.
      value: the number.
    """
    if not value > 0:
        raise ValueError(f"{name} is {value}: give a positive number.")
