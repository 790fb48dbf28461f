"""Prototypical networks on CIFAR-FS.

Command: python -m experiments.train --config=experiments/configs/protonet_cifar_fs.py --workdir=DIR
"""

from ml_collections import ConfigDict

from experiments.configs import common


def get_config() -> ConfigDict:
    config = common.classification(ways=5, shots=1, queries=15)
    config.steps = 3_000
    config.meta_batch = 1
    config.train.ways = 20
    config.train.queries = 5
    config.data = ConfigDict({"make": "jaxmeta.data.cifar_fs"})
    config.model = common.embedding()
    config.learner = common.prototypical(config)
    return config
