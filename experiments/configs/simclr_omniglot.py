"""SimCLR on Omniglot without labels, many steps on small batches: Chen et al., 2020.

Command: python -m experiments.train --config=experiments/configs/simclr_omniglot.py \
    --workdir=DIR --data_dir=DATA
"""

from ml_collections import ConfigDict

from . import common, methods, omniglot


def get_config() -> ConfigDict:
    config = methods.configure(omniglot.DATA, "simclr")
    config.steps = 20_000
    config.meta_batch = 1
    config.sample.batches = 64
    config.evaluation.every = 2_000
    config.objective.objective.projector = ConfigDict(methods.head(64))
    config.optimizer = ConfigDict(
        {"make": "optax.adam", "learning_rate": common.cosine(config, 1e-3)}
    )
    return config
