"""ProtoCLR on Omniglot without labels: Medina, Devos and Grossglauser, 2020.

Command: python -m experiments.train --config=experiments/configs/protoclr_omniglot.py \
    --workdir=DIR --data_dir=DATA
Hardware and duration: 2 CPU cores, 9 minutes.
Expected: 91.6 ± 0.5 % 5-way 1-shot on 600 test episodes of unseen characters (random split by
characters, rotations as classes, transductive), and with experiments.evaluate --workdir=DIR
--shots=5 97.9 ± 0.2 %; 20-way 78.6 ± 0.4 % and 93.7 ± 0.2 %. The paper, which goes on to fine-tune
on the support set: 88.0 % and 96.5 %. The checkpoint is chosen on validation tasks, which have
labels; the last one gives 91.5 ± 0.5 % and 97.8 ± 0.2 %.
"""

from ml_collections import ConfigDict

from . import common


def get_config() -> ConfigDict:
    config = common.classification(ways=5, shots=1, queries=15)
    config.steps = 20_000
    config.meta_batch = 1
    # Each way is one drawing; the queries are what changes make of it.
    config.sample = ConfigDict({"instances": True, "ways": 50, "shots": 1, "queries": 3})
    config.data = common.omniglot()
    config.model = common.embedding(downsample="stride")
    config.learner = common.prototypical(config)
    change = {
        "make": "jaxmeta.data.composed",
        "changes": [
            {"make": "jaxmeta.data.resized_crop", "scale": [0.6, 1.4]},
            {"make": "jaxmeta.data.drop_pixels", "probability": 0.3},
            {
                "make": "jaxmeta.data.sometimes",
                "probability": 0.5,
                "change": {"make": "jaxmeta.data.erase"},
            },
        ],
    }
    config.objective = ConfigDict(
        {
            "make": "jaxmeta.objectives.augmented",
            "objective": {"make": "jaxmeta.objectives.episodic"},
            "augment": change,
            "support": {"function": "jaxmeta.data.unchanged"},
        }
    )
    return config
