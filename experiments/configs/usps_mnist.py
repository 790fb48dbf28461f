"""From USPS to MNIST, the other direction of ``mnist_usps.py``.

Command: python -m experiments.train --config=experiments/configs/usps_mnist.py:METHOD \
    --workdir=DIR --data_dir=DATA
Methods: source_only, mmd, coral, dann, cdan, adda.
"""

from ml_collections import ConfigDict

from . import adaptation

SHIFT = adaptation.digits("usps", "mnist")


def get_config(method: str = "dann") -> ConfigDict:
    return adaptation.configure(SHIFT, method)
