"""Compares methods of multi-task learning over several seeds, in one table and one plot.

  python -m experiments.multitask --data=cifar100_tasks [--methods=separate,hard_sharing,pcgrad] \
      [--seeds=3] [--rates=0.0003,0.001,0.003] [--steps=2000] [--workdir=runs/multitask] \
      [--data_dir=DATA]

``--data`` names a module of ``experiments/configs``, or one of your own by its dotted name, with
``TASKS`` as in ``cifar100_tasks.py``. With several rates, the first seed of each method is trained
at every rate, and the others at the one with the best validation. Finished work is kept: the same
command continues where it stopped.

Writes ``multitask.json``, ``multitask.md`` and ``multitask.png``: the accuracy on test examples,
averaged over tasks, with intervals over seeds, and what each method gains over hard sharing.
"""

import sys
from pathlib import Path

from absl import flags

from jaxmeta.runs import Diverged, Stopped

from . import multitasking, plots, program

DATA = flags.DEFINE_string("data", None, "A module of experiments/configs, like cifar100_tasks.")
METHODS = flags.DEFINE_list("methods", ["all"], "Which methods, or all.")
SEEDS = flags.DEFINE_integer("seeds", 3, "Runs of each method, with seeds from 0.", lower_bound=1)
RATES = flags.DEFINE_list("rates", [], "Learning rates to choose from; else the config's.")
STEPS = flags.DEFINE_integer("steps", None, "Outer steps, instead of the config's.", lower_bound=1)


def main(arguments: list[str]) -> None:
    """Trains what is missing and reports after each run, so that finished ones can be seen."""
    with program.one_sentence():
        if DATA.value is None:
            raise ValueError("--data is needed, as in --data=cifar100_tasks.")
        tasks = multitasking.load_tasks(DATA.value)
        methods = multitasking.methods_of(tasks, METHODS.value)
        rates = multitasking.rates_of(RATES.value) or [tasks.rate]
        tasks = tasks._replace(steps=STEPS.value or tasks.steps)
        folder = Path(program.WORKDIR.value or f"runs/multitask_{DATA.value}")
    outcomes: list[multitasking.Outcome] = []
    left_out: list[str] = []

    def run(method: str, rate: float, seed: int) -> None:
        name = f"{method}, rate {rate:g}, seed {seed}"
        print(f"{name}:", file=sys.stderr)
        try:
            with program.one_sentence():
                outcomes.append(
                    multitasking.outcome_of(
                        tasks._replace(rate=rate), method, seed, folder, program.DATA_DIR.value
                    )
                )
        except Stopped as stopped:
            sys.exit(str(stopped))
        except Diverged as error:
            print(f"{name}: left out, {error}", file=sys.stderr)
            left_out.append(name)
            return
        plots.multitask(folder, multitasking.write(folder, outcomes, left_out))

    for seed in range(SEEDS.value):
        for method in methods:
            if seed == 0:
                for rate in rates:
                    run(method, rate, seed)
            elif method in (chosen := multitasking.chosen_rates(outcomes)):
                run(method, chosen[method], seed)
        if not outcomes:
            sys.exit("Error: every run diverged: see above.")
    print((folder / "multitask.md").read_text())


def start() -> None:
    """The entry point of ``jaxmeta-multitask``."""
    program.run(main)


if __name__ == "__main__":
    start()
