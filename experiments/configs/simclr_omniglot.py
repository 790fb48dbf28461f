"""SimCLR on Omniglot without labels, many steps on small batches: Chen et al., 2020.

Command: python -m experiments.train --config=experiments/configs/simclr_omniglot.py \
    --workdir=DIR --data_dir=DATA
Hardware and duration: one CPU core, 20 minutes beside other work.
Expected: 90.8 ± 0.5 % 5-way 1-shot by the nearest mean on 600 test episodes of unseen characters
(random split by characters, rotations as classes, transductive), and with experiments.evaluate
--workdir=DIR --shots=5 97.6 ± 0.2 %; 20-way 77.0 ± 0.4 % and 92.7 ± 0.2 %. The checkpoint is
chosen on validation tasks, which have labels: step 8,000. The last one gives 90.2 ± 0.6 % and
97.1 ± 0.3 %.
"""

from ml_collections import ConfigDict

from . import common, methods, omniglot, pretraining


def get_config() -> ConfigDict:
    config = methods.configure(omniglot.DATA, "simclr")
    config.steps = 20_000
    config.meta_batch = 1
    config.sample.batches = 64
    config.evaluation.every = 2_000
    config.evaluation.validation_episodes = 300
    config.objective.objective.projector = ConfigDict(pretraining.head(64))
    config.optimizer = ConfigDict(
        {"make": "optax.adam", "learning_rate": common.cosine(config, 1e-3)}
    )
    return config
