"""Any method on drawn glyphs, which need no download.

Command: python -m experiments.train --config=experiments/configs/glyphs.py:METHOD --workdir=DIR
"""

from ml_collections import ConfigDict

from . import methods

DATA = methods.Data(
    spec=ConfigDict({"make": "jaxmeta.data.glyphs"}),
    model={"downsample": "stride"},
    inner_rate=0.4,
    train_ways=20,
)


def get_config(method: str = "prototypical") -> ConfigDict:
    return methods.configure(DATA, method)
