"""CIFAR-100 as 20 tasks: telling the five classes of each superclass apart.

Command: python -m experiments.train --config=experiments/configs/cifar100_tasks.py:METHOD \
    --workdir=DIR --data_dir=DATA
Methods: those of multitask.py.
"""

from ml_collections import ConfigDict

from . import multitask

TASKS = multitask.Tasks(
    data={"make": "jaxmeta.data.cifar100_tasks"},
    tasks=20,
    classes=5,
    stages=[{"make": "jaxmeta.nn.conv_block", "filters": 64}] * 4,
    batch=16,
    steps=2_000,
)


def get_config(method: str = "hard_sharing") -> ConfigDict:
    return multitask.configure(TASKS, method)
