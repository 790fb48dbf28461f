"""Any method on drawn glyphs, which need no download.

Command: python -m experiments.train --config=experiments/configs/glyphs.py:METHOD --workdir=DIR
"""

from ml_collections import ConfigDict

from . import common, methods

DATA = methods.Data(
    spec=ConfigDict({"make": "jaxmeta.data.glyphs"}),
    model={"downsample": "stride"},
    inner_rate=0.4,
    train_ways=20,
    views=common.change_of_characters(),
)


def get_config(method: str = "prototypical") -> ConfigDict:
    return methods.configure(DATA, method)
