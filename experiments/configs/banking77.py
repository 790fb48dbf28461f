"""Any method on BANKING77: 77 intents of a bank's customers.

Command: python -m experiments.train --config=experiments/configs/banking77.py:METHOD \
    --workdir=DIR --data_dir=DATA
"""

from ml_collections import ConfigDict

from . import common, methods

DATA = methods.Data(
    spec=common.short_texts("banking77"),
    model={"make": "jaxmeta.nn.sentence_cnn"},
    inner_rate=0.1,
    train_ways=20,
)


def get_config(method: str = "prototypical") -> ConfigDict:
    return methods.configure(DATA, method)
