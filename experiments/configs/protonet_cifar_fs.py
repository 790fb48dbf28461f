"""Prototypical networks on CIFAR-FS, as far as a quarter of an hour on two cores goes.

Command: python -m experiments.train --config=experiments/configs/protonet_cifar_fs.py \
    --workdir=DIR --data_dir=DATA
Hardware and duration: 2 CPU cores, 11 minutes.
Expected: 45.7 ± 0.9 % 5-way 1-shot on 600 test episodes (transductive). The paper of CIFAR-FS
(Bertinetto et al., 2019) reports 55.5 ± 0.7 % for prototypical networks, trained to convergence.
"""

from ml_collections import ConfigDict

from . import common


def get_config() -> ConfigDict:
    config = common.classification(ways=5, shots=1, queries=15)
    config.steps = 3_000
    config.meta_batch = 1
    config.sample.ways = 20
    config.sample.queries = 5
    config.data = ConfigDict({"make": "jaxmeta.data.cifar_fs"})
    config.model = common.embedding()
    config.learner = common.prototypical(config)
    return config
