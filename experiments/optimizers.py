"""Compares learned optimizers with rivals whose rates are tuned, on fresh tasks.

  python -m experiments.optimizers --workdirs=runs/quadratics [--steps=100,200,1000] \
      [--rivals=sgd,nesterov,rmsprop,adam,adam_cosine] [--rates=25] [--tasks=1000] \
      [--workdir=runs/optimizers] [--data_dir=DATA] [--trust=mine]

``--workdirs`` are runs that trained an optimizer on one kind of problem, such as those of
``experiments/configs/quadratics.py``; the first is the reference of the differences. For each
number of steps, each rival has that rate of ``--rates``, spaced evenly on a logarithmic scale from
0.0001 to 10, whose loss after these steps is the lowest on 128 training tasks. All are then
compared on the same test tasks, from the same starts.

Writes ``optimizers.json``, ``optimizers.md``, ``optimizers.png`` and, of the first number of steps
on the first test task, how the coordinate that moves farthest is moved, ``optimizers_update.png``.
The loss is that of the whole
support set; a task diverged if its last loss is above its first, or is not finite.
"""

from pathlib import Path

import numpy as np
from absl import flags

from jaxmeta.runs.spec import suggest

from . import optimizing, program

WORKDIRS = flags.DEFINE_list("workdirs", [], "The folders of runs; the first is the reference.")
STEPS = flags.DEFINE_list("steps", ["100"], "Numbers of steps.")
RIVALS = flags.DEFINE_list("rivals", list(optimizing.RIVALS), "Which rivals.")
RATES = flags.DEFINE_integer("rates", 25, "How many rates each rival tries.", lower_bound=1)
TASKS = flags.DEFINE_integer("tasks", 1000, "Test tasks.", lower_bound=2)
TRUST = flags.DEFINE_list("trust", [], "Packages whose functions the runs' configs may name.")


def main(arguments: list[str]) -> None:
    """Compares what is asked for."""
    with program.one_sentence():
        if not WORKDIRS.value:
            raise ValueError("--workdirs is needed, as in --workdirs=runs/quadratics.")
        horizons = [int(each) if each.isdigit() else 0 for each in STEPS.value]
        if min(horizons, default=0) < 1:
            raise ValueError(f"--steps is {','.join(STEPS.value)}: give whole numbers, 1 or more.")
        for name in RIVALS.value:
            if name not in optimizing.RIVALS:
                raise ValueError(f"There is no rival '{name}': {suggest(name, optimizing.RIVALS)}.")
        folders = [Path(each) for each in WORKDIRS.value]
        loaded = [
            optimizing.load(folder, program.DATA_DIR.value, TRUST.value) for folder in folders
        ]
        problems, reference = loaded[0][0], folders[0].name
        rates = np.logspace(-4, 1, RATES.value)
        curves = []
        for steps in horizons:
            for folder, (_, optimizer) in zip(folders, loaded, strict=True):
                curves.append(
                    optimizing.learned(folder.name, problems, optimizer, steps, TASKS.value)
                )
            for name in RIVALS.value:
                curves.append(optimizing.rival(name, problems, steps, TASKS.value, rates))
        written = Path(program.WORKDIR.value or "runs/optimizers")
        moved = [
            optimizing.movement(folder.name, problems, optimizer, horizons[0])
            for folder, (_, optimizer) in zip(folders, loaded, strict=True)
        ]
        for curve in curves:
            if curve.rate is not None and curve.steps == horizons[0]:
                make = optimizing.RIVALS[curve.name](curve.rate, curve.steps)
                moved.append(optimizing.movement(curve.name, problems, make, curve.steps))
        text = optimizing.write(written, curves, reference, moved)
    print(text)


def start() -> None:
    """The entry point of ``jaxmeta-optimizers``."""
    program.run(main)


if __name__ == "__main__":
    start()
