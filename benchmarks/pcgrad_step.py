r"""A PCGrad gradient of many tasks in this library and in PyTorch, and what the surgery adds to it.

  python -m benchmarks.pcgrad_step [--tasks=20] [--size=16] [--image_size=32] [--repetitions=9]

A conv4 of 64 filters that tasks share, and a linear head for each, on ``--size`` images of every
task. ``torch`` computes as LibMTL does: a backward pass for each task, then dot products of whole
gradients in loops. It is not LibMTL's own code, which is not on PyPI. Of two tasks that conflict,
whose order does not matter, the gradients must agree; ``unprojected`` is this library's mean over
tasks. Prints a JSON line for each, and a table.
"""

from functools import partial

from absl import flags

from benchmarks import command
from benchmarks.machine import describe
from benchmarks.many_tasks.problem import Tasks, conflicting, make_tasks
from benchmarks.problem import Arrays, relative_difference
from benchmarks.report import Row, show, spread, tell
from benchmarks.timing import again
from benchmarks.workers import Failure, Worker, in_own_process, repeat

TOLERANCE = 1e-3
"""How far rounding may move a gradient, relative to its norm; it flips a few ReLUs."""
TASKS = flags.DEFINE_integer("tasks", 20, "Tasks of a step.", lower_bound=2)
SIZE = flags.DEFINE_integer("size", 16, "Images of a task.", lower_bound=2)
IMAGE_SIZE = flags.DEFINE_integer("image_size", 32, "Side of the images.", lower_bound=16)
REPETITIONS = command.define_repetitions()


def given(count: int) -> tuple[Tasks, Arrays]:
    """So many tasks, and initial parameters."""
    sizes = (count, SIZE.value, IMAGE_SIZE.value)
    parameters = in_own_process("benchmarks.many_tasks.jaxmeta:make_parameters", *sizes)
    return make_tasks(*sizes), parameters


def start(name: str, tasks: Tasks, parameters: Arrays) -> tuple[Worker, Arrays]:
    """An implementation in its process, and its gradient; raises ``Failure``."""
    worker = Worker("benchmarks.many_tasks.problem:Contestant", name, tasks, parameters)
    return worker, worker.call("first")[1]


def main() -> None:
    """Checks, times and reports."""
    two, many = conflicting(*given(2)), given(TASKS.value)
    workers, gradients, skipped = {}, {}, {}
    for name in ("jaxmeta", "torch", "unprojected"):
        try:
            if name != "unprojected":
                small, gradients[name] = start(name, *two)
                small.close()
            workers[name], _ = start(name, *many)
        except Failure as failure:
            if name == "jaxmeta":
                raise
            skipped[name] = str(failure)
    if "torch" in workers:
        difference = relative_difference(gradients["torch"], gradients["jaxmeta"])
        if difference > TOLERANCE:
            raise ValueError(
                f"The gradient of torch differs from that of jaxmeta by {difference:.2g} of its "
                f"norm, where {TOLERANCE:g} is rounding: find out which of the two is wrong."
            )
    calls = {name: partial(again, name, worker) for name, worker in workers.items()}
    spreads = {name: spread(times) for name, times in repeat(calls, REPETITIONS.value).items()}
    ours = spreads["jaxmeta"]["median_ms"]
    rows: list[Row] = [
        {"name": name, **times, "relative_time": times["median_ms"] / ours}
        for name, times in spreads.items()
    ]
    rows += [{"name": name, "skipped": why} for name, why in skipped.items()]
    for row in rows:
        tell(row)
    title = (
        f"A gradient by PCGrad: {TASKS.value} tasks of {SIZE.value} images, conv4 of 64 filters on "
        f"{IMAGE_SIZE.value} x {IMAGE_SIZE.value} pixels, float32"
    )
    show(title, describe(in_own_process("benchmarks.machine:measure_device")), rows)


if __name__ == "__main__":
    command.run(main)
