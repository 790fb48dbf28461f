"""From MNIST to USPS, whose classes are not equally frequent.

Command: python -m experiments.train --config=experiments/configs/mnist_usps.py:METHOD \
    --workdir=DIR --data_dir=DATA
Methods: source_only, mmd, coral, dann, cdan, adda.
"""

from ml_collections import ConfigDict

from . import adaptation

SHIFT = adaptation.digits("mnist", "usps")


def get_config(method: str = "dann") -> ConfigDict:
    return adaptation.configure(SHIFT, method)
