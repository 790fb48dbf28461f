"""Prototypical networks on texts of your own: a table, JSON lines, or a folder of class folders.

Command: python -m experiments.train --config=experiments/configs/protonet_texts.py --workdir=DIR \
    --config.data.path=TEXTS.csv [--config.data.text=COLUMN] [--config.data.label=COLUMN] \
    [--config.data.vectors=FILE]

Word vectors are those of pip install 'jaxmeta[text]', unless a file of others is given. 20 classes
are enough: 10 are trained on, 5 validate and 5 test. With fewer, lower config.sample.ways and
config.ways.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from . import common


def get_config() -> ConfigDict:
    config = common.classification(ways=5, shots=1, queries=10)
    config.steps = 2_000
    config.meta_batch = 4
    config.sample.ways = 10
    config.data = ConfigDict(
        {
            "make": "jaxmeta.data.texts",
            "path": placeholder(str),
            "text": "text",
            "label": "label",
            "vectors": "glove.6B.50d",
        }
    )
    config.model = ConfigDict({"make": "jaxmeta.nn.sentence_cnn"})
    config.learner = common.prototypical(config)
    return config
