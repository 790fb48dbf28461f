"""Omniglot: 24 background alphabets are desired, the evaluation alphabets harmful, 6 benign.

Command: python -m experiments.train --config=experiments/configs/resisting_omniglot.py:DEFENSE \
    --workdir=DIR --data_dir=DATA
Defenses: see resisting.py.
"""

from ml_collections import ConfigDict

from . import resisting

WORLD = resisting.World(
    data={
        "make": "jaxmeta.data.harmful_classes",
        "data": {
            "make": "jaxmeta.data.omniglot",
            "split": "alphabets",
            "rotations": False,
            "size": 16,
        },
        "ways": 20,
        "shots": 3,
        "queries": 1,
        "seen": 0.3,  # 6 drawings of 20
    },
    classes=770,
    model={"make": "jaxmeta.nn.conv4", "filters": 32},
    ways=20,
)


def get_config(defense: str = "blocked") -> ConfigDict:
    return resisting.configure(WORLD, defense)
