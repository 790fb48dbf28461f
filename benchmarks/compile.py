r"""How long this library's meta-gradient takes to compile, cold and from jax's persistent cache.

  python -m benchmarks.compile [--inner_steps=1,5] [--tasks=8,32] [--learner=maml] [--ways=5] \
      [--shots=1] [--queries=15] [--filters=64] [--image_size=28]

Each setting is compiled with an empty cache, and again with the cache that this leaves, each time
in a fresh process. ``warm_hits`` proves that the second compilation used the cache; on CPUs with
AVX-512, XLA may refuse an entry that it wrote itself (jax-ml/jax#38445), which ``warm_misses``
shows. Tracing is not cached. Prints a JSON line for each setting, and a table.
"""

import dataclasses
import itertools
import tempfile

from benchmarks import command
from benchmarks.machine import describe
from benchmarks.problem import Problem
from benchmarks.report import Row, show, tell
from benchmarks.workers import in_own_process

PROBLEM = command.define_problem(
    Problem(),
    fields=("ways", "shots", "queries", "filters", "image_size"),
    learners=("maml", "fomaml"),
)
INNER_STEPS = command.define_integers("inner_steps", (1, 5), "Each is measured.", least=0)
TASKS = command.define_integers("tasks", (8, 32), "Each is measured.")


def main() -> None:
    """Measures each setting twice."""
    problem = PROBLEM()
    problems = [
        dataclasses.replace(problem, inner_steps=steps, tasks=tasks)
        for steps, tasks in itertools.product(INNER_STEPS(), TASKS())
    ]
    device = in_own_process("benchmarks.machine:measure_device")
    rows: list[Row] = []
    for each in problems:
        row: dict[str, float] = {"inner_steps": each.inner_steps, "tasks": each.tasks}
        with tempfile.TemporaryDirectory() as folder:
            for start in ("cold", "warm"):
                figures = in_own_process("benchmarks.points:compilation", each, folder)
                row |= {f"{start}_{name}": value for name, value in figures.items()}
        rows.append(row)
        tell(row)
    title = (
        f"Compiling the meta-gradient of {problem.learner}: {problem.ways}-way "
        f"{problem.shots}-shot, {problem.queries} queries a class, conv4 of {problem.filters} "
        f"filters on {problem.image_size} x {problem.image_size} pixels, float32"
    )
    show(title, describe(device), rows)


if __name__ == "__main__":
    command.run(main)
