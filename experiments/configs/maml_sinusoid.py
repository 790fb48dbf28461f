"""MAML on sinusoids, the regression of Finn et al., 2017, section 5.1.

Command: python -m experiments.train --config=experiments/configs/maml_sinusoid.py --workdir=DIR
Then, after 5 and 10 steps: python -m experiments.evaluate --workdir=DIR --inner_steps=5
"""

from ml_collections import ConfigDict

from experiments.configs import common


def get_config() -> ConfigDict:
    config = common.regression(shots=5, queries=100)
    config.steps = 40_000
    config.meta_batch = 25
    config.log_every = 1_000
    config.train.queries = 50
    config.data = ConfigDict({"make": "jaxmeta.data.sinusoid"})
    config.model = ConfigDict({"make": "jaxmeta.nn.mlp", "outputs": 1, "hidden": (40, 40)})
    config.learner = common.maml(config, steps=1, learning_rate=0.01)
    config.learner.loss = config.loss
    config.optimiser.learning_rate = common.cosine(config, 2e-3)
    config.evaluation.every = 4_000
    config.evaluation.episodes = 2_000
    return config
