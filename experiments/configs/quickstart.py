"""MAML on drawn characters that need no download: the first thing to run.

Command: python -m experiments.train --config=experiments/configs/quickstart.py --workdir=DIR
Hardware and duration: 2 CPU cores, 1 to 2 minutes.
Expected: 92.0 ± 0.5 % 5-way 1-shot on 600 test episodes of unseen characters (transductive), and
51.8 ± 0.8 % for the same network trained from scratch on each support set.
"""

from ml_collections import ConfigDict

from . import common


def get_config() -> ConfigDict:
    config = common.classification(ways=5, shots=1, queries=15)
    config.steps = 1_500
    config.meta_batch = 8
    config.sample.queries = 5
    config.data = ConfigDict({"make": "jaxmeta.data.glyphs"})
    config.model = common.classifier(config, downsample="stride")
    config.learner = common.maml(config, steps=1, learning_rate=0.4)
    config.evaluations.trained.learner.steps = 3
    # The floor: the same network, trained on the support set alone.
    config.evaluations.from_scratch = ConfigDict(
        {"learner": common.scratch(config, steps=30, learning_rate=1e-2)}
    )
    return config
