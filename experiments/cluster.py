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

import jax
import numpy as np
from absl import flags

from jaxmeta import probes
from jaxmeta.learners.frames.support import to_unit_length
from jaxmeta.runs import tasks, workdir
from jaxmeta.runs.config import build_model, learner_spec

from . import program

CLUSTERS = flags.DEFINE_integer("clusters", 500, "How many.", lower_bound=2)
LEAST = flags.DEFINE_integer("least", 10, "Images of a cluster that is kept.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "Of the first centers.", lower_bound=0)
TRUST = flags.DEFINE_list("trust", [], "Packages whose functions the run's config may name.")


def main(arguments: list[str]) -> None:
    """Clusters and reports."""
    with program.one_sentence():
        if program.WORKDIR.value is None:
            raise ValueError("--workdir is needed: the folder of a run, as in runs/simclr.")
        folder = Path(program.WORKDIR.value)
        features, classes = training_features(folder, program.DATA_DIR.value, TRUST.value)
        if CLUSTERS.value > len(features):
            raise ValueError(
                f"--clusters is {CLUSTERS.value} and there are {len(features)} images: give fewer."
            )
    clusters = k_means(features, CLUSTERS.value, SEED.value)
    counts = np.bincount(clusters, minlength=CLUSTERS.value)
    labels = np.where(counts[clusters] >= LEAST.value, clusters, -1).astype(np.int32)
    np.save(folder / "clusters.npy", labels)
    kept = labels >= 0
    summary = {
        "clusters": int((counts >= LEAST.value).sum()),
        "images": int(kept.sum()),
        "left_out": int((~kept).sum()),
        "agreement_with_classes": agreement(classes, clusters),
        "seed": SEED.value,
    }
    print(json.dumps(summary, indent=2))


def training_features(
    folder: Path, data_dir: str | None, trust: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The features of a run's training images, and their classes."""
    config = workdir.read_config(folder)
    source = tasks.load_sources(config, data_dir, tuple(trust))["train"]
    restored, _ = workdir.load_best(folder, trust=tuple(trust))
    own = learner_spec(config).get("normalization") != "running"
    model, examples = build_model(config, tuple(trust)), probes.all_examples(source)
    params = restored.params["model"]
    state = restored.state
    if own:  # there are no averages that would be its own
        state = probes.statistics(model, params, state, examples.x)
    features = probes.features(model, params, state, examples.x)
    return np.asarray(jax.jit(to_unit_length)(features)), np.asarray(examples.y)


def k_means(features: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """The cluster of each row of ``[n, d]``, from 0."""
    try:
        from sklearn.cluster import KMeans
    except ImportError as error:
        raise ModuleNotFoundError(
            "k-means is scikit-learn's, which is not installed: pip install 'jaxmeta[cluster]'."
        ) from error
    return KMeans(clusters, n_init=1, random_state=seed).fit_predict(features)


def agreement(classes: np.ndarray, clusters: np.ndarray) -> float:
    """The adjusted mutual information of two partitions."""
    from sklearn.metrics import adjusted_mutual_info_score

    return float(adjusted_mutual_info_score(classes, clusters))


def start() -> None:
    """What ``jaxmeta-cluster`` runs."""
    program.run(main)


if __name__ == "__main__":
    start()
