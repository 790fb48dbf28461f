"""MAML on sinusoids, the regression of Finn et al., 2017, section 5.1.

Command: python -m experiments.train --config=experiments/configs/maml_sinusoid.py --workdir=DIR
Hardware and duration: 2 CPU cores, 1 minute.
Expected: a mean squared error of 0.22 ± 0.02 after 10 inner steps from 5 points, on 2,000 test
tasks (the paper: 0.35); with experiments.evaluate --workdir=DIR --inner_steps=N, 0.26 ± 0.02 after
5 steps (0.38) and 0.66 ± 0.03 after 1 (0.67).
"""

from ml_collections import ConfigDict

from . import common


def get_config() -> ConfigDict:
    config = common.regression(shots=5, queries=100)
    config.steps = 50_000
    config.meta_batch = 25
    config.log_every = 1_000
    config.sample.queries = 50
    config.data = ConfigDict({"make": "jaxmeta.data.sinusoid"})
    config.model = ConfigDict({"make": "jaxmeta.nn.mlp", "outputs": 1, "hidden": (40, 40)})
    # Trained with two steps, the loop stays stable over the ten that it is evaluated with; trained
    # with one, it diverges on some tasks.
    config.learner = common.maml(config, steps=2, learning_rate=0.01)
    config.learner.loss = config.loss
    config.evaluations.trained.learner.steps = 10
    config.optimizer.learning_rate = common.cosine(config, 3e-3)
    config.evaluation.every = 5_000
    config.evaluation.episodes = 2_000
    return config
