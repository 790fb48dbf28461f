"""The smallest domain adaptation: points, and the same points moved."""

import numpy as np

from jaxmeta.data import array_source, domain_shift

PARTS = ("train", "valid", "test")


def points() -> dict:
    """Two classes of points, and the same shifted by a half."""
    x = np.random.default_rng(0).normal(size=(40, 3))
    y = (x[:, 0] > 0).astype(int)
    return domain_shift(*(dict.fromkeys(PARTS, array_source(x + d, y)) for d in (0, 0.5)))


LAYER = {"make": "jaxmeta.nn.mlp", "outputs": 2, "hidden": []}
ACCURACY = {"accuracy": {"function": "jaxmeta.losses.accuracy"}}
LEARNER = {"make": "jaxmeta.learners.fixed_classifier", "head": LAYER}
CONFIG = {
    "data": {"make": "tests.runs.shifted.points"},
    "ways": 2,
    "shots": 0,
    "queries": 16,
    "steps": 4,
    "log_every": 2,
    "meta_batch": 2,
    "sample": {"batches": 8},
    "model": {"make": "jaxmeta.nn.mlp", "outputs": 4, "hidden": []},
    "loss": {"function": "jaxmeta.losses.cross_entropy"},
    "metrics": ACCURACY,
    "objective": {
        "make": "jaxmeta.domains.dann",
        "head": LAYER,
        "critic": LAYER,
        "steps": 4,
    },
    "optimizer": {"make": "optax.adam", "learning_rate": 0.1},
    "evaluation": {"every": 2, "checkpoint": "last"},
    "evaluations": {
        "source": {"learner": LEARNER, "split": "valid"},
        "target": {"learner": LEARNER, "split": "test"},
        "unlabeled": {
            "learner": LEARNER,
            "split": "unlabeled",
            "metrics": {"information": {"function": "jaxmeta.domains.mutual_information"}},
        },
    },
}
