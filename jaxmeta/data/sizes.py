"""How many places an episode's arrays have, and how many of these a task fills."""

import operator

import jax

from jaxmeta.checks import check_count
from jaxmeta.types import Array


def known_number(name: str, value: int | Array) -> int | None:
    """The number, or ``None`` if it is traced and only known at run time.

    Raises:
      ValueError: it is known, and not a positive integer.
    """
    if isinstance(value, jax.core.Tracer):
        return None
    check_count(name, value, least=1)
    return operator.index(value)


def check_without_classes(data: str, ways: int | Array, max_ways: int | None) -> None:
    """Raises ``ValueError`` unless one way is asked for, of data that have no classes."""
    if known_number("ways", ways) != 1 or max_ways not in (None, 1):
        raise ValueError(
            f"ways is {ways} and max_ways is {max_ways}, but {data} has no classes; give ways=1 "
            "and leave max_ways out."
        )


def static_places(name: str, value: int | Array, maximum: int | None) -> int:
    """How many places the shape has: ``maximum``, or ``value`` if there is no maximum.

    Raises:
      ValueError: the value is not a positive integer, is above the maximum, or is traced when
        there is no maximum.
    """
    known = known_number(name, value)
    if maximum is None:
        if known is None:
            raise ValueError(f"{name} is traced; give max_{name}, so that the shape is static.")
        return known
    check_count(f"max_{name}", maximum, least=1)
    if known is not None and maximum < known:
        raise ValueError(f"max_{name} is {maximum} and {name} is {known}; raise max_{name}.")
    return maximum


def most_and_range(
    name: str, value: int | Array | tuple[int, int]
) -> tuple[int | Array, tuple[int, int] | None]:
    """The largest number, and the two ends if the value is a range.

    Raises:
      ValueError: a range is not two positive integers in order.
    """
    if not isinstance(value, tuple | list):
        return value, None
    try:
        least, most = map(operator.index, value)
    except (TypeError, ValueError):  # not integers, or not two of them
        least = most = 0
    if not 1 <= least <= most:
        raise ValueError(f"The range of {name} is {value}; give (least, most), from 1.")
    return most, (least, most)
