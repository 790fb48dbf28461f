"""The smallest domain adaptation: points, and the same points moved."""

import numpy as np

from jaxmeta.data import array_source, class_source, domain_shift

PARTS = ("train", "valid", "test")


def points(scrambled: bool = False) -> dict:
    """Two classes of points, and the same shifted by a half; the latter's labels may be random."""
    x = np.random.default_rng(0).normal(size=(40, 3))
    y = np.repeat([0, 1], 20)
    x[:, 0] = np.sort(x[:, 0])  # stored class by class, so labels do not change the order
    target = array_source(x + 0.5, y)
    if scrambled:
        # The same examples in the same order, of one class but for the last.
        target = class_source(x + 0.5, [39, 1], ["0", "1"])
    return domain_shift(*(dict.fromkeys(PARTS, each) for each in (array_source(x, y), target)))


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
