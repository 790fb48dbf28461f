"""Prototypical networks on Omniglot."""

from ml_collections import ConfigDict

from experiments.configs import common


def get_config() -> ConfigDict:
    config = common.classification(ways=5, shots=1, queries=15)
    config.steps = 8_000
    config.meta_batch = 1
    config.train.ways = 60
    config.train.queries = 5
    config.data = common.omniglot()
    config.model = common.embedding(downsample="stride")
    config.learner = common.prototypical(config)
    return config
