r"""How long a step waits for its meta-batch of Omniglot when images are streamed.

  python -m benchmarks.streaming [--data_dir=DIR] [--milliseconds=0,100,1000] [--learner=maml] \
      [--ways=5] [--shots=1] [--queries=15] [--tasks=8] [--inner_steps=5] [--filters=64] \
      [--image_size=28] [--repetitions=9]

Images come from TFDS, which looks in --data_dir, else in its own folder, or from an array of their
pixels. A step is a sleep of each given number of milliseconds, or the meta-gradient. Prints a JSON
line for each, and a table.
"""

from absl import flags

from benchmarks import command
from benchmarks.machine import describe
from benchmarks.problem import Problem
from benchmarks.report import show, tell
from benchmarks.workers import in_own_process

PROBLEM = command.define_problem(Problem())
DATA_DIR = flags.DEFINE_string("data_dir", None, "TFDS's data folder, if not its own.")
MILLISECONDS = command.define_integers(
    "milliseconds", (0, 100, 1000), "Lengths of a step.", least=0
)
REPETITIONS = command.define_repetitions()


def main() -> None:
    """Times everything in one process."""
    problem = PROBLEM()
    rows = in_own_process(
        "benchmarks.points:streaming", problem, DATA_DIR.value, MILLISECONDS(), REPETITIONS.value
    )
    device = in_own_process("benchmarks.machine:measure_device")
    for row in rows:
        tell(row)
    title = (
        f"Waiting for streamed meta-batches of Omniglot: {problem.ways}-way {problem.shots}-shot, "
        f"{problem.queries} queries a class, {problem.tasks} tasks, {problem.image_size} x "
        f"{problem.image_size} pixels; the meta-gradient is that of {problem.learner}, "
        f"{problem.inner_steps} inner steps, conv4 of {problem.filters} filters"
    )
    show(title, describe(device), rows)


if __name__ == "__main__":
    command.run(main)
