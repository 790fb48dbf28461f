"""Makes classes from a run's training images without their labels: k-means on its features.

  python -m experiments.cluster --workdir=DIR [--clusters=500] [--least=10] [--seed=0] \
      [--checkpoint=best] [--data_dir=DIR] [--trust=mine]

Training any learner on these classes is CACTUs (Hsu, Levine and Finn, 2019). The cluster of each
image is written to ``clusters.npy`` in the run's folder, which the data set
``jaxmeta.data.pseudo_labeled`` reads. Images of clusters with fewer than ``--least`` images are
left out.

Features come from the best checkpoint, which validation tasks with labels chose, or with
``--checkpoint=last`` from the last, scaled to unit length. Running averages normalize them if
they do in the run's first evaluation, and otherwise statistics of all training images. Prints how
many clusters and images are left, and how well the clusters agree with the classes, which were not
used: 1 is perfect and 0 is chance.
"""

import json
from pathlib import Path

from absl import flags

from jaxmeta.runs import workdir

from . import clustering, program

CLUSTERS = flags.DEFINE_integer("clusters", 500, "Number of clusters.", lower_bound=2)
LEAST = flags.DEFINE_integer("least", 10, "Fewest images of a kept cluster.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "Seed of the first centers.", lower_bound=0)
CHECKPOINT = flags.DEFINE_enum(
    "checkpoint", "best", workdir.CHECKPOINTS, "The best one by validation tasks, or the last."
)
TRUST = flags.DEFINE_list("trust", [], "Packages whose functions the run's config may name.")


def main(arguments: list[str]) -> None:
    """Clusters and reports."""
    with program.one_sentence():
        if program.WORKDIR.value is None:
            raise ValueError("--workdir is needed: the folder of a run, as in runs/simclr.")
        summary = clustering.cluster(
            Path(program.WORKDIR.value),
            CLUSTERS.value,
            LEAST.value,
            SEED.value,
            program.DATA_DIR.value,
            tuple(TRUST.value),
            CHECKPOINT.value,
        )
    print(json.dumps(summary, indent=2))


def start() -> None:
    """The entry point of ``jaxmeta-cluster``."""
    program.run(main)


if __name__ == "__main__":
    start()
