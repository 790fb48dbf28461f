"""Times implementations of one meta-gradient against each other, after checking that they agree.

The process that compares computes nothing itself and imports neither jax nor torch.
"""

import dataclasses
import importlib
from collections.abc import Sequence
from functools import partial
from typing import cast

from benchmarks.implementations import OURS, build, rivals
from benchmarks.machine import describe
from benchmarks.problem import Arrays, Data, Problem, make_data, relative_difference
from benchmarks.report import Row, show, spread, tell
from benchmarks.workers import (
    Failure,
    Worker,
    burst,
    in_own_process,
    peak_memory_mib,
    repeat,
    timed,
)

CHECKED_TASKS = 4
TOLERANCE = 1e-4
"""How far float32 rounding may move a gradient from ours, relative to its norm."""


def compare(title: str, problem: Problem, against: Sequence[str] | None, repetitions: int) -> None:
    """Checks, times and reports.

    The columns are:

    - ``median_ms``, ``min_ms``, ``max_ms``: times of a meta-gradient; ``relative_time`` is the
      median relative to ours. Calls are interleaved, so that a slow moment of the machine affects
      all implementations; short ones are timed in bursts, as in training, too, calls follow each
      other.
    - ``compile_seconds``: the time of the first call, including any compilation.
    - ``baseline_memory_mib``, ``peak_memory_mib``: the most that the process held, runtime,
      libraries and compiler included, before anything was built and at the end.
    - ``flops``: the useful work, in reverse mode with direct convolutions, the same for all.
    - ``fraction_of_peak``: that work per median time, relative to what a matrix product reaches.
    - ``gradient_difference``: difference from our gradient, relative to its norm, on one task; it
      is checked.
    - ``batch_difference``: the same for all tasks together; it is not checked, see
      :func:`difference_from`.

    Args:
      title: title of the table.
      problem: what is computed.
      against: names of rivals; ``None`` for all that the problem has.
      repetitions: how often each is timed.

    Raises:
      ValueError: a gradient differs from ours, or there is no such rival.
      Failure: ours does not run, or another ran once but not again.
    """
    names = [OURS, *rivals(problem, against)]
    data = make_data(problem)
    parameters, flops, device = in_own_process("benchmarks.reference:make_reference", problem, data)
    workers: dict[str, Worker] = {}
    first: dict[str, dict[str, float]] = {}
    skipped: dict[str, str] = {}
    whole: Arrays = {}
    try:
        ours = [
            gradient_of_task(OURS, problem, data, parameters, task)
            for task in range(min(CHECKED_TASKS, problem.tasks))
        ]
    except Failure as failure:
        raise Failure(f"{OURS} does not run: {failure}.") from failure
    for name in names:
        try:
            difference = difference_from(ours, name, problem, data, parameters)
            worker = Worker("benchmarks.timing:Contestant", name, problem, data, parameters)
            seconds, gradient = worker.call("first")
        except Failure as failure:
            skipped[name] = str(failure)
            continue
        workers[name] = worker
        whole = gradient if name == OURS else whole
        first[name] = {
            "compile_seconds": seconds,
            "gradient_difference": difference,
            "batch_difference": relative_difference(gradient, whole),
        }

    calls = {name: partial(again, name, worker) for name, worker in workers.items()}
    spreads = {name: spread(times) for name, times in repeat(calls, repetitions).items()}
    rows: list[Row] = []
    for name in names:
        if name in skipped:
            rows.append({"name": name, "skipped": skipped[name]})
            continue
        baseline, peak = workers[name].call("memory")
        workers[name].close()
        median = spreads[name]["median_ms"]
        rows.append(
            {
                "name": name,
                **spreads[name],
                "relative_time": median / spreads[OURS]["median_ms"],
                "compile_seconds": first[name]["compile_seconds"],
                "baseline_memory_mib": baseline,
                "peak_memory_mib": peak,
                "flops": float(flops),
                "fraction_of_peak": flops / (median / 1e3) / device.peak,
                "gradient_difference": first[name]["gradient_difference"],
                "batch_difference": first[name]["batch_difference"],
            }
        )
    for row in rows:
        tell(row)
    show(title, describe(device), rows)


def gradient_of_task(
    name: str, problem: Problem, data: Data, parameters: Arrays, task: int
) -> Arrays:
    """An implementation's gradient for one task alone; raises ``Failure``."""
    alone = dataclasses.replace(problem, tasks=1)
    one = Data(*(array[task : task + 1] for array in data))
    worker = Worker("benchmarks.timing:Contestant", name, alone, one, parameters)
    _, gradient = worker.call("first")
    worker.close()
    return cast(Arrays, gradient)


def difference_from(
    ours: Sequence[Arrays], name: str, problem: Problem, data: Data, parameters: Arrays
) -> float:
    """How far a gradient is from ours, relative to its norm, on the first task without a kink.

    When rounding flips a ReLU or a maximum, the gradient of a task changes by far more than
    rounding, and this happens in some tasks of a batch for any two implementations. So an
    implementation only has to agree on one task of a few; a wrong gradient is wrong on all of them.

    Raises:
      ValueError: the gradients agree on none of the tasks.
      Failure: the implementation does not run.
    """
    differences = []
    for task, gradient in enumerate(ours):
        theirs = gradient_of_task(name, problem, data, parameters, task)
        differences.append(relative_difference(theirs, gradient))
        if differences[-1] <= TOLERANCE:
            return differences[-1]
    raise ValueError(
        f"The gradient of {name} differs from that of {OURS} by {min(differences):.2g} of its "
        f"norm, where {TOLERANCE:g} is rounding: find out which of the two is wrong."
    )


def again(name: str, worker: Worker) -> float:
    """Seconds of another call; raises ``Failure`` with the name."""
    try:
        seconds: float = worker.call("again")
    except Failure as failure:
        raise Failure(f"{name} ran once and not again: {failure}.") from failure
    return seconds


class Contestant:
    """An implementation in its process."""

    def __init__(self, name: str, problem: Problem, data: Data, parameters: Arrays):
        """Builds it."""
        # Measured after the library is imported and before anything is built with it.
        importlib.import_module(f"benchmarks.implementations.{name}")
        self._baseline = peak_memory_mib()
        self._implementation = build(name, problem, data, parameters)

    def first(self) -> tuple[float, Arrays]:
        """Seconds of the first call, and the gradient."""
        seconds, gradient = timed(self._implementation.step)
        return seconds, self._implementation.arrays(gradient)

    def again(self) -> float:
        """Seconds of another call, the mean over a burst if calls are short."""
        return burst(self._implementation.step)

    def memory(self) -> tuple[float, float]:
        """The peak memory of the process in MiB, before anything was built and until now."""
        return self._baseline, peak_memory_mib()
