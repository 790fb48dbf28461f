"""From reviews of one domain to those of another: 16 domains, good or bad.

Command: python -m experiments.train --config=experiments/configs/reviews.py:METHOD \
    --config.data.source=books --config.data.target=dvd --workdir=DIR --data_dir=DATA
Methods: source_only, mmd, coral, dann, cdan, adda.
"""

from ml_collections import ConfigDict

from . import adaptation

SHIFT = adaptation.Shift(
    data={
        "make": "jaxmeta.data.review_shift",
        "source": "books",
        "target": "dvd",
        "vectors": "glove/glove.6B.50d.part.npy",
        "length": 128,
    },
    classes=2,
    model={"make": "jaxmeta.nn.sentence_cnn", "filters": 100},
    hidden=(),
    critic=(100,),
    steps=1_000,
    adam=1e-3,
)


def get_config(method: str = "dann") -> ConfigDict:
    return adaptation.configure(SHIFT, method)
