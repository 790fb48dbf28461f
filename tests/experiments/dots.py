"""The smallest classification: tell patterns of dots apart, by ``maml`` or ``prototypical``.

``augmented`` is the latter, trained on examples that are changed.
"""

import numpy as np
from ml_collections import ConfigDict

from experiments.configs import common
from jaxmeta.data import class_source
from jaxmeta.types import Source


def get_config(method: str = "maml") -> ConfigDict:
    config = common.classification(ways=3, shots=1, queries=2)
    config.steps = 40
    config.meta_batch = 8
    config.log_every = 20
    config.data = ConfigDict(
        {"make": "tests.experiments.dots.patterns", "classes": 12, "examples": 4}
    )
    if method == "maml":
        config.model = ConfigDict({"make": "jaxmeta.nn.mlp", "outputs": 3, "hidden": (16,)})
        config.learner = common.maml(config, steps=1, learning_rate=0.4)
        config.evaluations.trained.learner.steps = 5
    else:
        config.model = common.embedding(filters=4, downsample="stride")
        config.learner = common.prototypical(config)
    if method == "augmented":
        config.objective = ConfigDict(
            {
                "make": "jaxmeta.objectives.augmented",
                "objective": {"make": "jaxmeta.objectives.episodic"},
                "augment": {"make": "jaxmeta.data.crop_and_mirror", "padding": 1},
            }
        )
    config.evaluation.every = 20
    config.evaluation.validation_episodes = 4
    config.evaluation.episodes = 8
    return config


def patterns(classes: int, examples: int) -> dict[str, Source]:
    """Each class a random pattern, each example that with a little noise; all splits are alike."""
    random = np.random.default_rng(0)
    pattern = random.integers(0, 230, (classes, 1, 8, 8, 1))
    images = pattern + random.integers(0, 20, (classes, examples, 8, 8, 1))
    names = [f"pattern {i}" for i in range(classes)]
    source = class_source(
        images.astype(np.uint8).reshape(-1, 8, 8, 1), np.full(classes, examples), names
    )
    return dict.fromkeys(("train", "valid", "test"), source)
