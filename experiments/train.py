"""Meta-trains a learner and evaluates it.

  python -m experiments.train --config=experiments/configs/NAME.py --workdir=DIR \
      [--data_dir=DIR] [--config.field=value] [--spread=pmap | --parameter_shards=2] \
      [--distributed | --coordinator=HOST:PORT --processes=N --process=I]

The same command resumes a stopped run from its last checkpoint, and takes exactly the steps that an
uninterrupted run would have taken, on other devices too. Started on several machines, it shares the
tasks of each step among them. From Python, without flags: ``jaxmeta.runs.run``.
"""

import json
import pathlib
import sys

from absl import flags

from jaxmeta.distributed.parallel import SPREADS
from jaxmeta.distributed.processes import is_primary, say
from jaxmeta.runs import EVERYTHING, Diverged, Stopped, prepare, train, workdir
from jaxmeta.runs.measure import measure

from . import plots, program

CONFIG = program.define_config("config", "The experiment.")
SPREAD = flags.DEFINE_enum("spread", SPREADS[0], SPREADS, "How tasks are spread over devices.")
PARAMETER_SHARDS = flags.DEFINE_integer(
    "parameter_shards", 1, "Devices that parameters are split over; pmap has one.", lower_bound=1
)


def main(arguments: list[str]) -> None:
    """Trains, evaluates on the test classes, and draws."""
    with program.one_sentence():
        if CONFIG.value is None or program.WORKDIR.value is None:
            raise ValueError(
                "--config and --workdir are needed, as in --config=quickstart "
                "--workdir=runs/quickstart."
            )
        folder = pathlib.Path(program.WORKDIR.value)
        run = prepare(
            CONFIG.value, folder, program.DATA_DIR.value, SPREAD.value, PARAMETER_SHARDS.value
        )
    for note in run.notes:
        say(note)
    try:
        with program.one_sentence():
            train(run)
    except Diverged as error:
        sys.exit(f"Error: {error}")
    except Stopped as stopped:
        sys.exit(str(stopped))
    episodes = run.config["evaluation"]["episodes"]
    what = f"{episodes} test episodes" if run.config["shots"] else "all examples"
    say(f"Evaluating the {run.config['evaluation']['checkpoint']} checkpoint on {what}.")
    with program.one_sentence():
        result = measure(folder, run.sources, "test", trust=EVERYTHING)
        workdir.write_atomically(folder / "result.json", json.dumps(result, indent=2) + "\n")
        if is_primary():
            plots.curve(folder)
        plots.episode(folder, run.sources["test"], EVERYTHING)
        plots.domains(folder, run.sources, EVERYTHING)
        plots.reconstructions(folder, run.sources["valid"], EVERYTHING)
    if is_primary():
        print(json.dumps(result, indent=2))


def start() -> None:
    """The entry point of ``jaxmeta-train``."""
    program.run(main)


if __name__ == "__main__":
    start()
