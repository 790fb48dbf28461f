"""Prototypical networks on a folder (or zip) of your own: one sub-folder of images for each class.

Command: python -m experiments.train --config=experiments/configs/protonet_folder.py --workdir=DIR \
    --config.data.path=IMAGES

20 classes are enough: 10 are trained on, 5 validate and 5 test. With fewer, lower
config.sample.ways and config.ways.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from . import common


def get_config() -> ConfigDict:
    config = common.classification(ways=5, shots=1, queries=10)
    config.steps = 2_000
    config.meta_batch = 4
    config.sample.ways = 10
    config.data = ConfigDict({"make": "jaxmeta.data.folder", "path": placeholder(str), "size": 32})
    config.model = common.embedding()
    config.learner = common.prototypical(config)
    return config
