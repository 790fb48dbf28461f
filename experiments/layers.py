"""Which layers of a run transfer: copied up to each depth, and frozen or trained on new tasks.

  python -m experiments.layers --workdir=runs/compare_cifar_fs/pretrained [--shots=1,5] \
      [--episodes=200] [--steps=30] [--learning_rates=0.001,0.003] [--split=test] \
      [--parts=block0,block1,block2,block3] [--data_dir=DIR] [--trust=mine]

The lowest parts of the model are copied from the run, those above start at random in every task,
and a classifier is trained with them on the support set. The copied parts are either frozen or
trained too. If several learning rates are given, each row has the one that is best on tasks of the
validation classes. All rows have the same tasks.

Writes ``layers.json``, ``layers.md`` and ``layers.png`` into the run's folder. Finished rows are
kept: the same command continues where it stopped.
"""

from pathlib import Path

from absl import flags

from . import copied, plots, program, same_episodes

SHOTS = flags.DEFINE_list("shots", ["1", "5"], "Support examples per class; each is evaluated.")
EPISODES = flags.DEFINE_integer("episodes", 200, "Tasks for each number of shots.", lower_bound=2)
STEPS = flags.DEFINE_integer("steps", 30, "Training steps on a task.", lower_bound=1)
RATES = flags.DEFINE_list(
    "learning_rates", ["0.001", "0.003"], "Adam's, to choose from by validation."
)
PARTS = flags.DEFINE_list("parts", [], "The model's, lowest first; else as they are numbered.")
SPLIT = flags.DEFINE_enum("split", "test", ["valid", "test"], "Whose classes tasks are of.")
TRUST = flags.DEFINE_list("trust", [], "Packages whose functions the run's config may name.")


def main(arguments: list[str]) -> None:
    """Evaluates each depth and reports after each row."""
    with program.one_sentence():
        if program.WORKDIR.value is None:
            raise ValueError("--workdir is needed: the folder of a run, as in runs/pretrained.")
        folder = Path(program.WORKDIR.value)
        protocol = copied.Protocol(
            shots=same_episodes.chosen_shots(SHOTS.value),
            episodes=EPISODES.value,
            steps=STEPS.value,
            learning_rates=copied.rates_of(RATES.value),
            split=SPLIT.value,
        )
        run = copied.load(folder, PARTS.value, program.DATA_DIR.value, tuple(TRUST.value))
        for rows in copied.evaluated(run, protocol):
            copied.write(folder, rows)
            plots.layers(folder, rows)
    print((folder / "layers.md").read_text())


def start() -> None:
    """The entry point of ``jaxmeta-layers``."""
    program.run(main)


if __name__ == "__main__":
    start()
