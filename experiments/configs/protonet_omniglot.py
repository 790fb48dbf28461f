"""Prototypical networks on Omniglot: Snell et al., 2017, section 3.1.

Command: python -m experiments.train --config=experiments/configs/protonet_omniglot.py \
    --workdir=DIR --data_dir=DATA
Hardware and duration: 2 CPU cores, 11 minutes.
Expected: 98.9 ± 0.2 % 5-way 1-shot on 600 test episodes of unseen characters (random split by
characters, rotations as classes, transductive), trained on 60-way episodes. The paper: 98.8 %.
"""

from ml_collections import ConfigDict

from . import common


def get_config() -> ConfigDict:
    config = common.classification(ways=5, shots=1, queries=15)
    config.steps = 8_000
    config.meta_batch = 1
    config.sample.ways = 60
    config.sample.queries = 5
    config.data = common.omniglot()
    config.model = common.embedding(downsample="stride")
    config.learner = common.prototypical(config)
    return config
