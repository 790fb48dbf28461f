"""Multi-MNIST: two overlapping digits in an image, and a task for each.

Command: python -m experiments.train --config=experiments/configs/multi_mnist.py:METHOD \
    --workdir=DIR --data_dir=DATA
Methods: those of multitask.py.
"""

from ml_collections import ConfigDict

from . import multitask

TASKS = multitask.Tasks(
    data={"make": "jaxmeta.data.multi_mnist"},
    tasks=2,
    classes=10,
    stages=[{"make": "jaxmeta.nn.conv_block", "filters": filters} for filters in (10, 20)]
    + [{"make": "jaxmeta.nn.mlp", "outputs": 50, "hidden": [100]}],
    batch=128,
    steps=4_000,
)


def get_config(method: str = "hard_sharing") -> ConfigDict:
    return multitask.configure(TASKS, method)
