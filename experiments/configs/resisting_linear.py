"""The toy of Henderson et al., 2023: a useful and a harmful hyperplane.

Command: python -m experiments.train --config=experiments/configs/resisting_linear.py:DEFENSE \
    --workdir=DIR
Defenses: see resisting.py.
"""

from ml_collections import ConfigDict

from . import resisting

WORLD = resisting.World(
    data={"make": "jaxmeta.data.harmful_labels"},
    classes=2,
    model={"make": "jaxmeta.nn.mlp", "outputs": 50, "hidden": [50, 50, 50]},
    ways=2,
    pretraining=({"make": "jaxmeta.data.linear_labels"}, 8),
    steps=2_000,
    pretraining_steps=2_000,
)


def get_config(defense: str = "blocked") -> ConfigDict:
    return resisting.configure(WORLD, defense)
