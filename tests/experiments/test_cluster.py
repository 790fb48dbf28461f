"""Clusters of a run's features: CACTUs, from features to tasks of clusters."""

import json

import jax
import numpy as np

from experiments import cluster
from experiments.configs import cactus_omniglot
from jaxmeta.runs import prepare, run
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
    found = cluster.k_means(features.astype(np.float32), 4, seed=0)
    assert cluster.agreement(classes, found) == 1
    assert abs(cluster.agreement(classes, random.permutation(found))) < 0.1


def test_a_run_is_trained_on_the_clusters_of_another(tmp_path, capsys, monkeypatch):
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

    flags = {"workdir": tmp_path / "simclr", "data_dir": None}
    for name, value in flags.items():
        monkeypatch.setattr(cluster.program, name.upper(), Given(value))
    for name, value in {"CLUSTERS": 6, "LEAST": 4, "SEED": 0, "TRUST": []}.items():
        monkeypatch.setattr(cluster, name, Given(value))
    cluster.main([])
    summary = json.loads(capsys.readouterr().out)
    labels = np.load(tmp_path / "simclr/clusters.npy")
    assert labels.shape == (240,)
    assert (labels >= 0).sum() == summary["images"] == 240 - summary["left_out"]
    assert np.bincount(labels[labels >= 0]).max() >= 4

    path = str(tmp_path / "simclr/clusters.npy")
    data = {"make": "jaxmeta.data.pseudo_labeled", "data": GLYPHS, "path": path}
    learner = {"make": "jaxmeta.learners.prototypical", "ways": 3}
    prepared = prepare(small(data=data, learner=learner), tmp_path / "cactus")
    assert prepared.sources["train"].classes == summary["clusters"]
    assert prepared.sources["valid"].classes == 5
    assert jax.tree.leaves(prepared.train_state.params)


class Given:
    """A flag that has been set."""

    def __init__(self, value):
        self.value = value


def test_the_config_names_the_file():
    config = complete(cactus_omniglot.get_config("runs/simclr/clusters.npy"))
    assert config["data"]["path"] == "runs/simclr/clusters.npy"
