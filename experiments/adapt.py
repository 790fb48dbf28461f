"""Compares methods of domain adaptation over several seeds, in one table and one plot.

  python -m experiments.adapt --data=mnist_m [--methods=source_only,dann] [--seeds=5] \
      [--steps=8600] [--pairs=books:dvd,dvd:books] [--workdir=runs/adapt_mnist_m] [--data_dir=DATA]

``--data`` names a module of ``experiments/configs``, or one of your own by its dotted name, with a
``SHIFT`` as in ``mnist_m.py``. Every method and seed has a run of its own in the folder, trained as
by ``experiments.train``. Finished work is kept: the same command continues where it stopped.
``--pairs`` takes other domains than the config's, for data whose source and target are names.

Writes ``adaptation.json``, ``adaptation.md`` and ``adaptation.png``. The result of a run is its
last checkpoint; what would have been chosen without labels of the target (by the accuracy on the
source, mutual information or entropy) and the best on the target's test set stand beside it in
brackets. The source's accuracy of ``adda`` is that of the target's encoder.
"""

import sys
from pathlib import Path

from absl import flags

from jaxmeta.runs import Diverged, Stopped

from . import adapting, plots, program

DATA = flags.DEFINE_string("data", None, "A module of experiments/configs, like mnist_m.")
METHODS = flags.DEFINE_list("methods", ["all"], "Which methods, or all.")
SEEDS = flags.DEFINE_integer("seeds", 5, "Runs of each method, with seeds from 0.", lower_bound=1)
PAIRS = flags.DEFINE_list("pairs", [], "Pairs of domains, as in books:dvd; else the config's.")
STEPS = flags.DEFINE_integer("steps", None, "Outer steps, instead of the config's.", lower_bound=1)


def main(arguments: list[str]) -> None:
    """Trains what is missing and reports after each run, so that finished ones can be seen."""
    with program.one_sentence():
        if DATA.value is None:
            raise ValueError("--data is needed, as in --data=mnist_m.")
        shift = adapting.load_shift(DATA.value)
        cells = adapting.cells_of(
            shift, METHODS.value, SEEDS.value, adapting.pairs_of(PAIRS.value), STEPS.value
        )
        folder = Path(program.WORKDIR.value or f"runs/adapt_{DATA.value}")
    outcomes, left_out = [], []
    for cell in cells:
        print(f"{cell.name}:", file=sys.stderr)
        try:
            with program.one_sentence():
                outcomes.append(adapting.outcome_of(cell, folder, program.DATA_DIR.value))
        except Stopped as stopped:
            sys.exit(str(stopped))
        except Diverged as error:
            print(f"{cell.name}: left out, {error}", file=sys.stderr)
            left_out.append(cell.name)
            continue
        adapting.write(folder, outcomes, left_out)
        plots.adaptation(folder, outcomes)
    if not outcomes:
        sys.exit("Error: every run diverged: see above.")
    print((folder / "adaptation.md").read_text())


def start() -> None:
    """The entry point of ``jaxmeta-adapt``."""
    program.run(main)


if __name__ == "__main__":
    start()
