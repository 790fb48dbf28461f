"""MAML (second order) on Omniglot."""

from ml_collections import ConfigDict

from experiments.configs import common


def get_config() -> ConfigDict:
    config = common.classification(ways=5, shots=1, queries=15)
    config.steps = 9_000
    config.meta_batch = 16
    config.train.queries = 5
    config.data = common.omniglot()
    config.model = common.classifier(config, downsample="stride")
    config.learner = common.maml(config, steps=1, learning_rate=0.4)
    config.evaluation.learner.steps = 3
    return config
