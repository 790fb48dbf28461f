"""From MNIST to MNIST-M, digits on photographs: Ganin et al., 2016, section 5.2.3.

Command: python -m experiments.train --config=experiments/configs/mnist_m.py:METHOD \
    --workdir=DIR --data_dir=DATA
Methods: source_only, mmd, coral, dann, cdan, adda.
"""

from ml_collections import ConfigDict

from . import adaptation

SHIFT = adaptation.Shift(
    data={
        "make": "jaxmeta.data.domain_shift",
        "source": {"make": "jaxmeta.data.mnist", "channels": 3},
        "target": {"make": "jaxmeta.data.mnist_m"},
    },
    classes=10,
    model={"make": "jaxmeta.nn.lenet", "center": 0.3},  # the mean of both domains
    hidden=(100, 100),
    critic=(100,),
)


def get_config(method: str = "dann") -> ConfigDict:
    return adaptation.configure(SHIFT, method)
