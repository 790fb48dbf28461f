"""CIFAR-100 by the parts of FC100: 60 classes are desired, 20 harmful, 20 benign.

Harmful are people, insects, aquatic and medium mammals; benign are other animals.

Command: python -m experiments.train --config=experiments/configs/resisting_fc100.py:DEFENSE \
    --workdir=DIR --data_dir=DATA
Defenses: see resisting.py.
"""

from ml_collections import ConfigDict

from . import resisting

WORLD = resisting.World(
    data={
        "make": "jaxmeta.data.harmful_classes",
        "data": {"make": "jaxmeta.data.fc100"},
        "ways": 5,
        "shots": 5,
        "queries": 4,
        "seen": 0.5,
    },
    classes=60,
    model={"make": "jaxmeta.nn.conv4", "filters": 32},
    ways=5,
)


def get_config(defense: str = "blocked") -> ConfigDict:
    return resisting.configure(WORLD, defense)
