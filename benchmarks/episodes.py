r"""The cost of drawing a meta-batch of Omniglot inside ``jit``, next to its meta-gradient's.

  python -m benchmarks.episodes [--data_dir=DIR] [--learner=maml] [--ways=5] [--shots=1] \
      [--queries=15] [--tasks=8] [--inner_steps=5] [--filters=64] [--image_size=28] \
      [--repetitions=9]

As in the experiments, data are looked for in --data_dir, else in JAXMETA_DATA_DIR. Prints a JSON
line for each of the two, and a table.
"""

from absl import flags

from benchmarks import command
from benchmarks.machine import describe
from benchmarks.problem import Problem
from benchmarks.report import show, tell
from benchmarks.workers import in_own_process

PROBLEM = command.define_problem(Problem())
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where data sets lie; else JAXMETA_DATA_DIR.")
REPETITIONS = command.define_repetitions()


def main() -> None:
    """Times both in one process."""
    problem = PROBLEM()
    rows = in_own_process("benchmarks.points:episodes", problem, DATA_DIR.value, REPETITIONS.value)
    device = in_own_process("benchmarks.machine:measure_device")
    for row in rows:
        tell(row)
    title = (
        f"Drawing a meta-batch of Omniglot: {problem.ways}-way {problem.shots}-shot, "
        f"{problem.queries} queries a class, {problem.tasks} tasks, {problem.image_size} x "
        f"{problem.image_size} pixels; the meta-gradient is that of {problem.learner}, "
        f"{problem.inner_steps} inner steps, conv4 of {problem.filters} filters"
    )
    show(title, describe(device), rows)


if __name__ == "__main__":
    command.run(main)
