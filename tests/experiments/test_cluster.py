"""Clusters of a run's features: CACTUs, from features to tasks of clusters."""

import numpy as np
import pytest

from experiments import clustering
from experiments.configs import cactus_omniglot
from jaxmeta.runs import prepare, run, train
from jaxmeta.runs.config import complete

GLYPHS = {"make": "jaxmeta.data.glyphs", "classes": [12, 5, 5], "examples": 20, "size": 14}


def small(**fields):
    error = {"function": "jaxmeta.losses.cross_entropy"}
    return {
        "data": GLYPHS,
        "model": {"make": "jaxmeta.nn.conv4", "filters": 4, "downsample": "stride"},
        "loss": error,
        "metrics": {"accuracy": {"function": "jaxmeta.losses.accuracy"}},
        "ways": 3,
        "shots": 1,
        "queries": 2,
        "steps": 2,
        "meta_batch": 2,
        "log_every": 1,
        "evaluation": {"every": 2, "validation_episodes": 2, "episodes": 2},
        **fields,
    }


def test_k_means_finds_what_is_apart():
    random = np.random.default_rng(0)
    classes = np.repeat(np.arange(4), 25)
    features = 10 * np.eye(4)[classes] + random.normal(size=(100, 4))
    found = clustering.k_means(features.astype(np.float32), 4, seed=0)
    assert clustering.agreement(classes, found) == 1
    assert abs(clustering.agreement(classes, random.permutation(found))) < 0.1


@pytest.mark.slow
def test_a_run_is_trained_on_the_clusters_of_another(tmp_path):
    views = {"make": "jaxmeta.data.shift", "pixels": 1}
    simclr = {
        "make": "jaxmeta.pretraining.simclr",
        "projector": {"make": "jaxmeta.nn.projector", "outputs": 4, "hidden": [4]},
    }
    evaluated = {"make": "jaxmeta.learners.nearest_mean", "ways": 3}
    first = small(
        sample={"batches": 8},
        objective={"make": "jaxmeta.objectives.two_views", "objective": simclr, "augment": views},
        evaluations={"nearest_mean": {"learner": evaluated, "state": "model"}},
    )
    run(first, tmp_path / "simclr", writers=[])

    summary = clustering.cluster(tmp_path / "simclr", clusters=6, least=4, seed=0)
    labels = np.load(tmp_path / "simclr/clusters.npy")
    assert labels.shape == (240,)
    assert (labels >= 0).sum() == summary["images"] == 240 - summary["left_out"]
    assert np.bincount(labels[labels >= 0]).max() >= 4

    with pytest.raises(ValueError, match="--clusters is 500 and there are 240 images"):
        clustering.cluster(tmp_path / "simclr", clusters=500, least=4, seed=0)

    with pytest.raises(ValueError, match="--least is 999 and the largest cluster has"):
        clustering.cluster(tmp_path / "simclr", clusters=6, least=999, seed=0)

    path = str(tmp_path / "simclr/clusters.npy")
    data = {"make": "jaxmeta.data.pseudo_labeled", "data": GLYPHS, "path": path}
    learner = {"make": "jaxmeta.learners.prototypical", "ways": 3}
    prepared = prepare(small(data=data, learner=learner), tmp_path / "cactus")
    assert prepared.sources["train"].classes == summary["clusters"]
    assert prepared.sources["valid"].classes == 5
    train(prepared, writers=[])
    # Its examples are in another order than those of the data set.
    with pytest.raises(ValueError, match=r"are clusters already, .* give a run on the data set"):
        clustering.cluster(tmp_path / "cactus", clusters=4, least=4, seed=0)


def test_the_config_names_the_file():
    config = complete(cactus_omniglot.get_config("runs/simclr/clusters.npy"))
    assert config["data"]["path"] == "runs/simclr/clusters.npy"
