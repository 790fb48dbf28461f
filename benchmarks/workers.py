"""Separate processes, so that libraries stay apart and the memory of each can be measured.

A process is told what to do one call at a time: while one computes, the others wait.
"""

import multiprocessing
import pkgutil
import random
import resource
import signal
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

MIB = 2**20
REST_SECONDS = 0.05
"""A pause before a timed call: the threads of the previous one spin for some milliseconds."""
BURST_SECONDS = 0.1
"""How long a function is timed in its turn, at least."""

_spawn = multiprocessing.get_context("spawn")


class Failure(Exception):
    """A process cannot do what it was told to do; the message says why."""


class Worker:
    """A process that makes an object and calls its methods when told to.

    Args:
      make: a function or class, named as ``"package.module:name"``; only the process imports it.
      arguments: its arguments, which are sent to the process.

    Raises:
      Failure: the object cannot be made, a package is missing, or the process died.
    """

    def __init__(self, make: str, *arguments: Any):
        """Starts the process and makes the object."""
        self._connection, theirs = _spawn.Pipe()
        self._process = _spawn.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self._ask((make, arguments))

    def call(self, method: str, *arguments: Any) -> Any:
        """Calls a method and returns its result; raises ``Failure`` like the class."""
        return self._ask((method, arguments))

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
        self._process.join()

    def _ask(self, message: tuple[str, tuple[Any, ...]]) -> Any:
        try:
            self._connection.send(message)
            done, value = self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            raise Failure(f"its process died ({_ending(self._process.exitcode)})") from None
        if not done:
            self.close()
            raise Failure(value)
        return value


def in_own_process(function: str, *arguments: Any) -> Any:
    """Calls a function, named as for :class:`Worker`, in a process that ends after the call."""
    worker = Worker("benchmarks.workers:Call", function)
    value = worker.call("now", *arguments)
    worker.close()
    return value


class Call:
    """A function, given by its name, as an object with a method."""

    def __init__(self, function: str):
        """Finds it."""
        self._function = pkgutil.resolve_name(function)

    def now(self, *arguments: Any) -> Any:
        """Calls it."""
        return self._function(*arguments)


def _serve(connection: Connection) -> None:
    """What a worker's process does until the other end closes."""
    made: Any = None
    while True:
        try:
            name, arguments = connection.recv()
        except EOFError:
            return
        try:
            if made is None:
                made, value = pkgutil.resolve_name(name)(*arguments), None
            else:
                value = getattr(made, name)(*arguments)
            connection.send((True, value))
        except ModuleNotFoundError as error:
            connection.send((False, f"the package {error.name} is not installed"))
        except Exception as error:  # whatever it is, the other side reports it
            message = str(error).partition("\n")[0]
            connection.send((False, f"{type(error).__name__}: {message}"))


def _ending(code: int | None) -> str:
    """How a process ended, in words."""
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit status {code}"


def peak_memory_mib() -> float:
    """The most memory this process ever held, in MiB, its runtime and libraries included.

    Linux also counts what the parent held when it started the process: keep parents small.
    """
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """How many seconds a call took, and what it returned."""
    begin = time.perf_counter()
    value = function()
    return time.perf_counter() - begin, value


def burst(step: Callable[[], Any]) -> float:
    """Seconds of a call: the mean over as many as fill :data:`BURST_SECONDS`.

    In training, too, calls follow each other; a single short one after a rest takes longer.
    """
    seconds: list[float] = []
    while sum(seconds) < BURST_SECONDS:
        seconds.append(timed(step)[0])
    return sum(seconds) / len(seconds)


def repeat(
    functions: Mapping[str, Callable[[], float]], repetitions: int
) -> dict[str, list[float]]:
    """Calls functions in turns, in a new random order in each round.

    Whatever slows the machine for a while then slows all of them.

    Args:
      functions: functions by name; each returns its own seconds.
      repetitions: number of rounds.

    Returns:
      The seconds by name, each ``[repetitions]``.
    """
    names = list(functions)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    order = random.Random(0)
    for _ in range(repetitions):
        # In a fixed order, each would always follow the same other one.
        for name in order.sample(names, len(names)):
            time.sleep(REST_SECONDS)
            seconds[name].append(functions[name]())
    return seconds
