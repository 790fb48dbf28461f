"""Any method on Reuters: newswires of 31 topics.

Command: python -m experiments.train --config=experiments/configs/reuters.py:METHOD \
    --workdir=DIR --data_dir=DATA
"""

from ml_collections import ConfigDict

from . import common, methods

DATA = methods.Data(
    spec=common.short_texts("reuters"),
    model={"make": "jaxmeta.nn.sentence_cnn"},
    inner_rate=0.1,
    train_ways=15,
)


def get_config(method: str = "prototypical") -> ConfigDict:
    return methods.configure(DATA, method)
