"""Reviews of 16 domains, good or bad, as one task for each domain.

Command: python -m experiments.train --config=experiments/configs/review_tasks.py:METHOD \
    --workdir=DIR --data_dir=DATA
Methods: those of multitask.py.
"""

from ml_collections import ConfigDict

from . import multitask

TASKS = multitask.Tasks(
    data={
        "make": "jaxmeta.data.review_tasks",
        "vectors": "glove/glove.6B.50d.part.npy",
        "length": 128,
        "leaked": False,
    },
    tasks=16,
    classes=2,
    stages=[{"make": "jaxmeta.nn.sentence_cnn", "filters": 100}],
    batch=8,
    steps=2_000,
)


def get_config(method: str = "hard_sharing") -> ConfigDict:
    return multitask.configure(TASKS, method)
