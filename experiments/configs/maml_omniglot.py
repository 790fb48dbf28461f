"""MAML (second order) on Omniglot: Finn et al., 2017, section 5.2.

Command: python -m experiments.train --config=experiments/configs/maml_omniglot.py --workdir=DIR \
    --data_dir=DATA
Hardware and duration: 2 CPU cores, 14 minutes.
Expected: 98.1 ± 0.2 % 5-way 1-shot on 600 test episodes of unseen characters (random split by
characters, rotations as classes, transductive, 3 inner steps). The paper: 98.7 ± 0.4 %, after
60,000 steps of 32 tasks, where these are 9,000 steps of 16.
"""

from ml_collections import ConfigDict

from . import common


def get_config() -> ConfigDict:
    config = common.classification(ways=5, shots=1, queries=15)
    config.steps = 9_000
    config.meta_batch = 16
    config.sample.queries = 5
    config.data = common.omniglot()
    config.model = common.classifier(config, downsample="stride")
    config.learner = common.maml(config, steps=1, learning_rate=0.4)
    config.evaluations.trained.learner.steps = 3
    return config
