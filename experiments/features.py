"""Writes what a run's model makes of all images of its data, for experiments on features.

  python -m experiments.features --workdir=runs/compare_cifar_fs/pretrained \
      [--checkpoint=best] [--data_dir=DIR] [--trust=mine]

Writes ``features.npz`` into the run's folder, which the data set ``jaxmeta.data.features`` reads.
Running averages normalize the features if they do in the run's first evaluation, and otherwise
statistics of all training images. Of images that are turned into several classes, only the upright
ones are there.
"""

from pathlib import Path

from absl import flags

from jaxmeta.runs import workdir
from jaxmeta.runs.tasks import SPLITS

from . import featuring, program

CHECKPOINT = flags.DEFINE_enum(
    "checkpoint", "best", workdir.CHECKPOINTS, "The best one by validation tasks, or the last."
)
TRUST = flags.DEFINE_list("trust", [], "Packages whose functions the run's config may name.")


def main(arguments: list[str]) -> None:
    """Writes the features, and says how many there are."""
    with program.one_sentence():
        if program.WORKDIR.value is None:
            raise ValueError("--workdir is needed: the folder of a run, as in runs/pretrained.")
        folder = Path(program.WORKDIR.value)
        found = featuring.features_of(
            folder, SPLITS, program.DATA_DIR.value, tuple(TRUST.value), CHECKPOINT.value
        )
        path = featuring.write(folder, found)
    for split, (x, y) in found.items():
        print(f"{split}: {len(x):,} features of size {x.shape[1]} in {y.max() + 1} classes")
    print(f"Written to {path}.")


def start() -> None:
    """The entry point of ``jaxmeta-features``."""
    program.run(main)


if __name__ == "__main__":
    start()
