"""Repeats the evaluation of a run, or evaluates it on other data, ways or shots.

  python -m experiments.evaluate --workdir=DIR [--ways=20] [--shots=5] [--queries=10] \
      [--episodes=1000] [--inner_steps=5] [--split=valid] [--checkpoint=last] [--data_dir=DIR] \
      [--data=experiments/configs/OTHER.py] [--trust=mine]

``--trust`` lists, separated by commas, the packages whose functions the run's config may name
besides those of jaxmeta and optax. Naming a function runs its package's code.

Prints the result as JSON and adds it to ``evaluations.jsonl`` in the run's folder.
"""

import json
from pathlib import Path

from absl import flags

from jaxmeta.distributed.processes import is_primary
from jaxmeta.runs import EVERYTHING, tasks, workdir
from jaxmeta.runs.config import complete
from jaxmeta.runs.measure import measure

from . import program

DATA = program.define_config("data", "A config whose data to evaluate on.")
SPLIT = flags.DEFINE_enum("split", None, ["train", "valid", "test"], "The split, else test.")
CHECKPOINT = flags.DEFINE_enum(
    "checkpoint", None, workdir.CHECKPOINTS, "The best by validation or the last, if not the run's."
)
TRUST = flags.DEFINE_list("trust", [], "Packages whose functions the run's config may name.")
OVERRIDES = [
    flags.DEFINE_integer("ways", None, "Classes of an episode, if not the run's own."),
    flags.DEFINE_integer("shots", None, "Support examples per class, if not the run's own."),
    flags.DEFINE_integer("queries", None, "Query examples per class, if not the run's own."),
    flags.DEFINE_integer("episodes", None, "How many episodes, if not the run's own."),
    flags.DEFINE_integer("inner_steps", None, "Steps of adaptation, if not the run's own."),
]


def main(arguments: list[str]) -> None:
    """Evaluates and reports."""
    with program.one_sentence():
        if program.WORKDIR.value is None:
            raise ValueError("--workdir is needed: the folder of a run, as in runs/quickstart.")
        folder = Path(program.WORKDIR.value)
        config = workdir.read_config(folder)
        fixed = [each.get("split") for each in config["evaluations"].values()]
        if SPLIT.value is not None and all(fixed):
            raise ValueError(
                f"--split was given, but the run's evaluations are on {', '.join(fixed)}, as its "
                "config says: leave --split out."
            )
        data, trust = config["data"], tuple(TRUST.value)
        if DATA.value is not None:  # the user's own file, whose code has already run
            data, trust = complete(DATA.value)["data"], EVERYTHING
        sources = tasks.load_sources({"data": data}, program.DATA_DIR.value, trust)
        overrides = {flag.name: flag.value for flag in OVERRIDES if flag.value is not None}
        result = measure(
            folder, sources, SPLIT.value or "test", data, TRUST.value, CHECKPOINT.value, **overrides
        )
    if is_primary():
        with (folder / "evaluations.jsonl").open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(json.dumps(result, indent=2))


def start() -> None:
    """The entry point of ``jaxmeta-evaluate``."""
    program.run(main)


if __name__ == "__main__":
    start()
