"""The smallest experiment: a run of it is a few seconds of start-up and nothing else."""

from ml_collections import ConfigDict

from experiments.configs import common


def get_config() -> ConfigDict:
    config = common.regression(shots=5, queries=5)
    config.steps = 12
    config.meta_batch = 8
    config.log_every = 1
    config.data = ConfigDict({"make": "jaxmeta.data.sinusoid"})
    config.model = ConfigDict({"make": "jaxmeta.nn.mlp", "outputs": 1, "hidden": (8,)})
    config.learner = ConfigDict(
        {
            "make": "jaxmeta.learners.maml",
            "steps": 1,
            "learning_rate": 0.01,
            "loss": ConfigDict({"function": "jaxmeta.losses.squared_error"}),
            "normalization": "transductive",
        }
    )
    config.evaluation.every = 4
    config.evaluation.validation_episodes = 4
    config.evaluation.episodes = 4
    return config
