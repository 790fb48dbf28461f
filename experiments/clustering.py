"""Classes made from a run's training images without their labels, for ``experiments.cluster``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxmeta.learners.frames.support import to_unit_length

from .featuring import features_of


def cluster(
    folder: Path,
    clusters: int,
    least: int,
    seed: int,
    data_dir: str | None = None,
    trust: Sequence[str] = (),
    checkpoint: str = "best",
) -> dict[str, Any]:
    """Writes ``clusters.npy`` into a run's folder.

    Args:
      folder: folder of the run.
      clusters: number of clusters.
      least: fewest images of a cluster that is kept.
      seed: seed of the first centers.
      data_dir: folder of the data.
      trust: packages whose functions the run's config may name.
      checkpoint: ``"best"``, by validation tasks, or ``"last"``.

    Returns:
      How many clusters and images are left, and how well the clusters agree with the classes.

    Raises:
      ValueError: there is no such run, or it has fewer images than ``clusters``.
      ModuleNotFoundError: scikit-learn is not installed.
    """
    rows, classes = features_of(folder, ["train"], data_dir, trust, checkpoint)["train"]
    features = np.asarray(jax.jit(to_unit_length)(rows))
    if clusters > len(features):
        raise ValueError(
            f"--clusters is {clusters} and there are {len(features)} images: give fewer."
        )
    found = k_means(features, clusters, seed)
    counts = np.bincount(found, minlength=clusters)
    if counts.max() < least:
        raise ValueError(
            f"--least is {least} and the largest cluster has {counts.max()} images: give less."
        )
    labels = np.where(counts[found] >= least, found, -1).astype(np.int32)
    np.save(folder / "clusters.npy", labels)
    return {
        "clusters": int((counts >= least).sum()),
        "images": int((labels >= 0).sum()),
        "left_out": int((labels < 0).sum()),
        "agreement_with_classes": agreement(classes, found),
        "seed": seed,
        "checkpoint": checkpoint,
    }


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
