"""No meta-learning: a network trained from scratch on each support set. The floor.

Command: python -m experiments.train --config=experiments/configs/scratch_omniglot.py \
    --workdir=DIR --data_dir=DATA
Hardware and duration: 2 CPU cores, 1 minute, all of it evaluation.
Expected: 54.0 ± 0.9 % 5-way 1-shot on 600 test episodes (transductive).
"""

from ml_collections import ConfigDict

from . import common


def get_config() -> ConfigDict:
    config = common.classification(ways=5, shots=1, queries=15)
    config.steps = 0
    config.data = common.omniglot()
    config.model = common.classifier(config, downsample="stride")
    config.learner = common.scratch(config, steps=30, learning_rate=1e-2)
    config.optimizer = ConfigDict({"make": "optax.identity"})
    return config
