"""CLINC150: the domain of a request, and its intent, which is easier to tell from a higher layer.

Command: python -m experiments.train --config=experiments/configs/clinc150_tasks.py:METHOD \
    --workdir=DIR --data_dir=DATA
Methods: those of multitask.py.
"""

from ml_collections import ConfigDict

from . import multitask

TASKS = multitask.Tasks(
    data={
        "make": "jaxmeta.data.clinc150_tasks",
        "vectors": "glove/glove.6B.50d.part.npy",
        "length": 32,
    },
    tasks=2,
    classes=150,
    stages=[
        {"make": "jaxmeta.nn.sentence_cnn", "filters": 230},
        {"make": "jaxmeta.nn.mlp", "outputs": 128, "hidden": [256]},
    ],
    batch=64,
    steps=2_000,
    depths=(1, 2),
)


def get_config(method: str = "hard_sharing") -> ConfigDict:
    return multitask.configure(TASKS, method)
