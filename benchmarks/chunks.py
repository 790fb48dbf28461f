r"""What is gained by computing several tasks at a time on one device.

  python -m benchmarks.chunks [--chunk=1,2,8] [--learner=maml] [--ways=5] [--shots=1] \
      [--queries=15] [--tasks=8] [--inner_steps=5] [--filters=64] [--image_size=28] \
      [--repetitions=9]

Times each number of tasks at a time, and the number that the library chooses by itself. Prints a
JSON line for each, and a table.
"""

from benchmarks import command
from benchmarks.machine import describe
from benchmarks.problem import Problem
from benchmarks.report import show, tell
from benchmarks.workers import in_own_process

PROBLEM = command.define_problem(Problem())
CHUNKS = command.define_integers("chunk", (1, 2, 8), "Each is measured.")
REPETITIONS = command.define_repetitions()


def main() -> None:
    """Times everything in one process."""
    problem = PROBLEM()
    rows = in_own_process("benchmarks.points:chunks", problem, CHUNKS(), REPETITIONS.value)
    device = in_own_process("benchmarks.machine:measure_device")
    for row in rows:
        tell(row)
    title = (
        f"Tasks at a time: meta-gradient of {problem.learner}, {problem.ways}-way "
        f"{problem.shots}-shot, {problem.queries} queries a class, {problem.tasks} tasks, "
        f"{problem.inner_steps} inner steps, conv4 of {problem.filters} filters on "
        f"{problem.image_size} x {problem.image_size} pixels, float32, one device"
    )
    show(title, describe(device), rows)


if __name__ == "__main__":
    command.run(main)
