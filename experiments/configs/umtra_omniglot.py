"""UMTRA on Omniglot without labels: Khodadadeh, Bölöni and Shah, 2019.

Command: python -m experiments.train --config=experiments/configs/umtra_omniglot.py \
    --workdir=DIR --data_dir=DATA
Hardware and duration: one CPU core beside other work, 2 hours 20 minutes.
Expected: 87.2 ± 0.7 % 5-way 1-shot on 600 test episodes of unseen characters (random split by
characters, rotations as classes, transductive, 50 inner steps), and with experiments.evaluate
--workdir=DIR --shots=5 95.9 ± 0.3 %. The paper: 83.8 % and 95.4 %. The checkpoint is chosen on
validation tasks, which have labels, every 500 steps; the last one gives 87.2 ± 0.7 % and
95.9 ± 0.3 %.
"""

from ml_collections import ConfigDict

from . import common, pretraining


def get_config() -> ConfigDict:
    config = common.classification(ways=5, shots=1, queries=15)
    config.steps = 8_000
    config.evaluation.every = 500
    # Each way is one drawing, and its only query is an augmentation of it.
    config.sample = ConfigDict({"instances": True, "ways": 5, "shots": 1, "queries": 1})
    config.data = common.omniglot()
    config.model = common.classifier(config, downsample="stride")
    config.learner = common.maml(config, steps=5, learning_rate=0.1)
    config.evaluations.trained.learner.steps = 50
    change = {
        "make": "jaxmeta.data.composed",
        "changes": [
            {"make": "jaxmeta.data.drop_pixels", "probability": 0.5},
            {"make": "jaxmeta.data.shift", "pixels": 6},
        ],
    }
    config.objective = pretraining.unsupervised(change)
    return config
