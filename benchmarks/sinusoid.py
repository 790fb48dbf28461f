r"""One meta-gradient of a small network on sinusoids, where overhead takes most of the time.

  python -m benchmarks.sinusoid [--learner=maml|fomaml] [--shots=10] [--queries=10] [--tasks=25] \
      [--inner_steps=5] [--against=higher,torch_func] [--repetitions=9]

Prints a JSON line for each implementation, and a table; :func:`benchmarks.timing.compare` explains
its columns.
"""

from absl import flags

from benchmarks import command
from benchmarks.problem import Problem
from benchmarks.timing import compare

PROBLEM = command.define_problem(
    Problem(model="mlp", ways=1, shots=10, queries=10, tasks=25, learning_rate=0.01),
    fields=("shots", "queries", "tasks", "inner_steps"),
    learners=("maml", "fomaml"),
)
AGAINST = flags.DEFINE_list("against", None, "Implementations to compare with, if not all.")
REPETITIONS = command.define_repetitions()


def main() -> None:
    """Compares."""
    problem = PROBLEM()
    title = (
        f"Meta-gradient of {problem.learner} on sinusoids: {problem.shots} shots, "
        f"{problem.queries} queries, {problem.tasks} tasks, {problem.inner_steps} inner steps, "
        "perceptron 40-40, float32"
    )
    compare(title, problem, AGAINST.value, REPETITIONS.value)


if __name__ == "__main__":
    command.run(main)
