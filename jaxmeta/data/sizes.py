"""How many places an episode's arrays have, and how many of these a task fills."""

import operator

import jax

from jaxmeta.types import Array


def known_number(value: int | Array) -> int | None:
    """The number, or ``None`` where it is traced and only known at run time."""
    try:
        return operator.index(value)
    except jax.errors.TracerIntegerConversionError:
        return None


def static_places(name: str, value: int | Array, maximum: int | None) -> int:
    """How many places the shape has: ``maximum``, or ``value`` itself where that is ``None``.

    Raises:
      ValueError: the value is below 1, above the maximum, or traced where there is none.
    """
    known = known_number(value)
    if known is not None and known < 1:
        raise ValueError(f"An episode needs at least one of its {name} and got {known}; raise it.")
    if maximum is None:
        if known is None:
            raise ValueError(f"The number of {name} is traced; give max_{name} for a static shape.")
        return known
    if maximum < (known or 1):
        raise ValueError(f"max_{name}={maximum} is below {name}={known or 1}; raise it.")
    return maximum


def most_and_range(
    name: str, value: int | Array | tuple[int, int]
) -> tuple[int | Array, tuple[int, int] | None]:
    """The largest number, and the two ends when it is given as a range.

    Raises:
      ValueError: it has not two ends, or not in order.
    """
    if not isinstance(value, tuple | list):
        return value, None
    if len(value) != 2 or not 1 <= value[0] <= value[1]:
        raise ValueError(f"The range of {name} is {value}; give (least, most), from 1.")
    return operator.index(value[1]), (operator.index(value[0]), operator.index(value[1]))
