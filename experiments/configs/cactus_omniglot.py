"""CACTUs on Omniglot: prototypical networks of clusters instead of classes, Hsu et al., 2019.

Command: python -m experiments.train --config=experiments/configs/omniglot.py:simclr \
    --workdir=RUN --data_dir=DATA --config.steps=4000
python -m experiments.cluster --workdir=RUN --data_dir=DATA
python -m experiments.train --config=experiments/configs/cactus_omniglot.py:RUN/clusters.npy \
    --workdir=DIR --data_dir=DATA
Hardware and duration: 2 CPU cores; 11 minutes, 1 minute and 9 minutes.
Expected: 90.8 ± 0.5 % 5-way 1-shot on 600 test episodes of unseen characters (random split by
characters, rotations as classes, transductive), and with experiments.evaluate --workdir=DIR
--shots=5 97.1 ± 0.2 %. The paper, on the features of an autoencoder: 68.1 % and 83.6 %. The
checkpoint is chosen on validation tasks, which have labels; the last one gives the same.
"""

from ml_collections import ConfigDict

from . import methods, omniglot


def get_config(path: str = "clusters.npy") -> ConfigDict:
    config = methods.comparing(omniglot.DATA, "prototypical")
    config.steps = 4_000
    config.data = ConfigDict(
        {"make": "jaxmeta.data.pseudo_labeled", "data": omniglot.DATA.spec, "path": path}
    )
    return config
