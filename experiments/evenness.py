"""Whether joint training favors tasks with many examples, and meta-learning is even-handed.

  python -m experiments.evenness --data=review_sizes [--methods=joint,joint_tuned,fomaml,reptile] \
      [--exponents=0,0.5,1] [--rotations=5] [--workdir=runs/evenness] [--data_dir=DATA]

``--data`` names a module of ``experiments/configs``, or one of your own by its dotted name, with a
``PROBLEM`` as in ``review_sizes.py``. Every method is trained with tasks drawn in proportion to
their sizes to the power of each exponent, and with every rotation of the sizes over the tasks.
Finished work is kept: the same command continues where it stopped.

Writes ``evenness.json``, ``evenness.md`` and ``evenness.png``: each method's gain over training
on the task alone, and its slope on the logarithm of the task's size.
"""

import sys
from pathlib import Path

from absl import flags

from jaxmeta.runs import Stopped

from . import plots, program, rotating

DATA = flags.DEFINE_string("data", None, "A module of experiments/configs, like review_sizes.")
METHODS = flags.DEFINE_list("methods", ["all"], "Which methods, or all.")
EXPONENTS = flags.DEFINE_list("exponents", ["0", "0.5", "1"], "Of the sizes, to draw tasks by.")
ROTATIONS = flags.DEFINE_integer("rotations", 5, "Of the sizes over the tasks.", lower_bound=2)


def main(arguments: list[str]) -> None:
    """Trains what is missing and reports after each rotation but the first."""
    with program.one_sentence():
        if DATA.value is None:
            raise ValueError("--data is needed, as in --data=review_sizes.")
        problem = rotating.load_problem(DATA.value)
        methods = rotating.methods_of(METHODS.value)
        exponents = rotating.exponents_of(EXPONENTS.value)
        folder = Path(program.WORKDIR.value or f"runs/evenness_{DATA.value}")
        found: dict[rotating.Run, rotating.Accuracies] = {}
        runs = rotating.runs_of(methods, exponents, ROTATIONS.value)
        for place, run in enumerate(runs):
            print(f"{run.name}:", file=sys.stderr)
            try:
                found[run] = rotating.accuracies_of(problem, run, folder, program.DATA_DIR.value)
            except Stopped as stopped:
                sys.exit(str(stopped))
            last = place + 1 == len(runs) or runs[place + 1].rotation > run.rotation
            if last and run.rotation:
                outcomes = rotating.outcomes_of(problem, methods, found)
                rotating.write(folder, outcomes)
                plots.evenness(folder, rotating.measured(outcomes))
    print((folder / "evenness.md").read_text())


def start() -> None:
    """The entry point of ``jaxmeta-evenness``."""
    program.run(main)


if __name__ == "__main__":
    start()
