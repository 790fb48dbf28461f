"""Checks at the boundary that every room has use for."""

import operator
from typing import Any


def check_count(name: str, value: Any, least: int = 0) -> None:
    """Raises ``ValueError`` when a count is not a whole number, or below the least that there is.

    Args:
      name: what is counted, as the caller's user calls it.
      value: the count.
      least: that makes sense.
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
      name: what the caller's user calls it.
      value: the number.
    """
    if not value > 0:
        raise ValueError(f"{name} is {value}: give a positive number.")
