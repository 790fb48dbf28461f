"""Sources of tasks: episodes as pure functions of ``(data, key)``.

A data set is a function that returns the sources ``train``, ``valid`` and ``test``.
"""

from jaxmeta.data.batches import make_batch, make_episode, make_inputs
from jaxmeta.data.cifar import cifar_fs, fc100
from jaxmeta.data.episodes import class_source
from jaxmeta.data.glyphs import glyphs
from jaxmeta.data.images import folder, load_images
from jaxmeta.data.omniglot import omniglot
from jaxmeta.data.sinusoid import sinusoid

__all__ = [
    "cifar_fs",
    "class_source",
    "fc100",
    "folder",
    "glyphs",
    "load_images",
    "make_batch",
    "make_episode",
    "make_inputs",
    "omniglot",
    "sinusoid",
]
