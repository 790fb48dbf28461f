"""Any method on CIFAR-FS.

Command: python -m experiments.train --config=experiments/configs/cifar_fs.py:METHOD \
    --workdir=DIR --data_dir=DATA
"""

from ml_collections import ConfigDict

from . import methods

DATA = methods.Data(
    spec=ConfigDict({"make": "jaxmeta.data.cifar_fs"}),
    model={},
    inner_rate=0.05,
    train_ways=10,
    cosine=False,
    augment={"make": "jaxmeta.data.crop_and_mirror", "padding": 4},
    normalization="running",
    views={"make": "jaxmeta.data.simclr_augmentation", "strength": 0.5},
)


def get_config(method: str = "prototypical") -> ConfigDict:
    return methods.configure(DATA, method)
