"""Makes classes of the training images of a run without their labels: k-means on its features.

  python -m experiments.cluster --workdir=DIR [--clusters=500] [--least=10] [--seed=0] \
      [--data_dir=DIR] [--trust=mine]

What is trained on them is CACTUs (Hsu, Levine and Finn, 2019), by any learner: the data set
``jaxmeta.data.pseudo_labeled`` reads ``clusters.npy``, the cluster of each image, which is written
into the run's folder. Images of clusters that have fewer than ``--least`` are left out.

Features are those of the best checkpoint, of unit length, normalized as the run's first evaluation
does. Prints how many clusters and images are left, and how well the clusters agree with the
classes, which were not used: 1 is perfect and 0 what chance gives.
"""

import json
from pathlib import Path

from absl import flags

from . import clustering, program

CLUSTERS = flags.DEFINE_integer("clusters", 500, "How many.", lower_bound=2)
LEAST = flags.DEFINE_integer("least", 10, "Images of a cluster that is kept.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "Of the first centers.", lower_bound=0)
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
        )
    print(json.dumps(summary, indent=2))


def start() -> None:
    """What ``jaxmeta-cluster`` runs."""
    program.run(main)


if __name__ == "__main__":
    start()
