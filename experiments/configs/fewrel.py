"""Any method on FewRel: 54 relations to train on, 10 of the training relations to validate on.

Command: python -m experiments.train --config=experiments/configs/fewrel.py:METHOD \
    --workdir=DIR --data_dir=DATA
"""

from ml_collections import ConfigDict

from . import methods

DATA = methods.Data(
    spec=ConfigDict(
        {
            "make": "jaxmeta.data.fewrel",
            "test": "val_wiki",
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
