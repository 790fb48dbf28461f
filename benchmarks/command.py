"""What the command lines share: flags for the fields of a problem, and errors in one sentence."""

import dataclasses
import pathlib
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags

from benchmarks.problem import Problem
from benchmarks.workers import Failure

HELP = {
    "ways": "Classes of a task.",
    "shots": "Support examples a class.",
    "queries": "Query examples a class.",
    "tasks": "Tasks of a meta-batch.",
    "inner_steps": "Steps of the inner loop.",
    "filters": "Channels of each convolution.",
    "image_size": "Side of the images, in pixels.",
}
LEARNERS = ("maml", "fomaml", "protonet")


def define_problem(
    default: Problem, fields: Sequence[str] = tuple(HELP), learners: Sequence[str] = LEARNERS
) -> Callable[[], Problem]:
    """Defines flags for fields of a problem, and returns a function that reads it from them.

    Args:
      default: the problem when no flag is set.
      fields: the integer fields that have a flag of their own.
      learners: the choices of ``--learner``.
    """
    holders: list[Any] = [
        flags.DEFINE_integer(name, getattr(default, name), HELP[name]) for name in fields
    ]
    holders.append(flags.DEFINE_enum("learner", default.learner, learners, "The method."))
    return lambda: dataclasses.replace(default, **{flag.name: flag.value for flag in holders})


def define_integers(
    name: str, default: Sequence[int], text: str, least: int = 1
) -> Callable[[], list[int]]:
    """Defines a flag for comma-separated integers, and returns a function that reads them."""
    holder = flags.DEFINE_list(name, [str(value) for value in default], text)

    def read() -> list[int]:
        try:
            values = sorted({int(value) for value in holder.value})
        except ValueError:
            values = []
        if not values or values[0] < least:
            raise ValueError(
                f"--{name} is {','.join(holder.value)!r}: give integers from {least} with commas "
                "between."
            )
        return values

    return read


def define_repetitions() -> flags.FlagHolder[int]:
    """Defines the flag for how often each thing is timed."""
    return flags.DEFINE_integer("repetitions", 9, "Turns of each, timed.", lower_bound=1)


def run(main: Callable[[], None]) -> None:
    """Starts a program whose errors are reported in one sentence."""
    app.run(lambda arguments: guarded(main), flags_parser=parse)


def guarded(main: Callable[[], None]) -> None:
    """Ends the program with the message of an error that this package raised."""
    try:
        main()
    except (ValueError, Failure) as error:
        where = pathlib.Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        if pathlib.Path(__file__).resolve().parent not in where.resolve().parents:
            raise
        sys.exit(f"Error: {error}")


def parse(arguments: list[str]) -> list[str]:
    """Parses flags; nothing else may be on the command line."""
    try:
        rest = flags.FLAGS(arguments)
    except flags.Error as error:
        sys.exit(f"Error: {error}")
    if len(rest) > 1:
        sys.exit(f"Error: {rest[1]!r} is not a flag: see --help for those there are.")
    return rest
