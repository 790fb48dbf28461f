"""Any method on FewRel: 54 relations to train on, 10 of the training relations to validate on.

Command: python -m experiments.train --config=experiments/configs/fewrel.py:METHOD \
    --workdir=DIR --data_dir=DATA
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from . import methods

DATA = methods.Data(
    spec=ConfigDict(
        {
            "make": "jaxmeta.data.fewrel",
            "test": "val_wiki",
            "shared_with": placeholder(str),  # only test relations that this file has, too
            "held_out": 0,  # sentences of each training relation that are kept for tests
            "sentences": placeholder(int),  # the most of each relation to train on
            "vectors": "glove/glove.6B.50d.part.npy",
            "length": 40,
        }
    ),
    model={"make": "jaxmeta.nn.sentence_cnn", "filters": 230, "positions": 5},
    inner_rate=0.1,
    train_ways=10,
)


def get_config(method: str = "prototypical") -> ConfigDict:
    return methods.configure(DATA, method)
