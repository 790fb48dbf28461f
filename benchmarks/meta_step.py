r"""One meta-gradient of a conv4, in this library and in others.

  python -m benchmarks.meta_step [--learner=maml|fomaml|protonet] [--ways=5] [--shots=1] \
      [--queries=15] [--tasks=8] [--inner_steps=5] [--filters=64] [--image_size=28] \
      [--against=higher,torch_func] [--repetitions=9]

Prints a JSON line for each implementation, and a table; :func:`benchmarks.timing.compare` explains
its columns.
"""

from absl import flags

from benchmarks import command
from benchmarks.problem import Problem
from benchmarks.timing import compare

PROBLEM = command.define_problem(Problem())
AGAINST = flags.DEFINE_list("against", None, "Implementations to compare with, if not all.")
REPETITIONS = command.define_repetitions()


def main() -> None:
    """Compares."""
    problem = PROBLEM()
    steps = "" if problem.learner == "protonet" else f", {problem.inner_steps} inner steps"
    title = (
        f"Meta-gradient of {problem.learner}: {problem.ways}-way {problem.shots}-shot, "
        f"{problem.queries} queries a class, {problem.tasks} tasks{steps}, conv4 of "
        f"{problem.filters} filters on {problem.image_size} x {problem.image_size} pixels, float32"
    )
    compare(title, problem, AGAINST.value, REPETITIONS.value)


if __name__ == "__main__":
    command.run(main)
