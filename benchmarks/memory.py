r"""How the memory and time of this library's meta-gradient grow with the number of inner steps.

  python -m benchmarks.memory [--inner_steps=1,5,20,50,100] [--differentiation=mixed] \
      [--learner=maml] [--ways=5] [--shots=1] [--queries=15] [--tasks=8] [--filters=64] \
      [--image_size=28] [--repetitions=9]

``--differentiation=mixed,reverse,rematerialized`` compares these ways of differentiating through
the inner loop. Prints a JSON line for each way and number of steps, and a table;
:func:`benchmarks.points.memory` explains its columns.
"""

import dataclasses
import itertools

from absl import flags

from benchmarks import command
from benchmarks.machine import describe
from benchmarks.problem import Problem
from benchmarks.report import Row, show, tell
from benchmarks.workers import in_own_process

PROBLEM = command.define_problem(
    Problem(),
    fields=("ways", "shots", "queries", "tasks", "filters", "image_size"),
    learners=("maml", "fomaml"),
)
INNER_STEPS = command.define_integers(
    "inner_steps", (1, 5, 20, 50, 100), "Each is measured.", least=0
)
WAYS = ("mixed", "reverse", "rematerialized")
DIFFERENTIATION = flags.DEFINE_list(
    "differentiation", ["mixed"], f"Ways through the inner loop: {', '.join(WAYS)}."
)
REPETITIONS = command.define_repetitions()


def main() -> None:
    """Measures each way and number of steps in a process of its own."""
    problem = PROBLEM()
    if not DIFFERENTIATION.value or set(DIFFERENTIATION.value) - set(WAYS):
        raise ValueError(
            f"--differentiation is {','.join(DIFFERENTIATION.value)!r}: give some of "
            f"{', '.join(WAYS)}, with commas between."
        )
    problems = [dataclasses.replace(problem, inner_steps=steps) for steps in INNER_STEPS()]
    device = in_own_process("benchmarks.machine:measure_device")
    rows: list[Row] = []
    for way, each in itertools.product(DIFFERENTIATION.value, problems):
        row = in_own_process("benchmarks.points:memory", each, way, REPETITIONS.value)
        fewest = next((one for one in rows if one["differentiation"] == way), row)
        added = row["inner_steps"] - fewest["inner_steps"]
        # The time of one further step, without the fixed time of the query set.
        further = (row["median_ms"] - fewest["median_ms"]) / added if added else None
        rows.append({**row, "ms_per_further_step": further})
        tell(rows[-1])
    title = (
        f"Meta-gradient of {problem.learner} by inner steps: {problem.ways}-way "
        f"{problem.shots}-shot, {problem.queries} queries a class, {problem.tasks} tasks, conv4 of "
        f"{problem.filters} filters on {problem.image_size} x {problem.image_size} pixels, float32"
    )
    show(title, describe(device), rows)


if __name__ == "__main__":
    command.run(main)
