"""Any method on Omniglot: unseen characters of a random split, quarter turns as classes.

Command: python -m experiments.train --config=experiments/configs/omniglot.py:METHOD \
    --workdir=DIR --data_dir=DATA
Hardware, duration and what to expect: docs/comparison.md.
"""

from ml_collections import ConfigDict

from . import common, methods

DATA = methods.Data(
    spec=common.omniglot(),
    model={"downsample": "stride"},
    inner_rate=0.4,
    train_ways=20,
    views=common.change_of_characters(),
)


def get_config(method: str = "prototypical") -> ConfigDict:
    return methods.configure(DATA, method)
