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

from . import omniglot, pretraining


def get_config() -> ConfigDict:
    config = pretraining.protoclr(omniglot.DATA)
    config.steps = 20_000
    return config
