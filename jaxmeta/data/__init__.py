"""Sources of tasks: episodes as pure functions of ``(data, key)``.

A data set is a function that returns the sources ``train``, ``valid`` and ``test``.
"""

from jaxmeta.data.augment import crop_and_mirror
from jaxmeta.data.batches import make_batch, make_episode, make_inputs
from jaxmeta.data.choices import Choice
from jaxmeta.data.cifar import cifar_fs, fc100
from jaxmeta.data.episodes import class_source, finish
from jaxmeta.data.glyphs import glyphs
from jaxmeta.data.images import folder, load_images
from jaxmeta.data.omniglot import omniglot
from jaxmeta.data.sinusoid import sinusoid
from jaxmeta.data.streaming import StreamedSampler, stream, streamed_source

__all__ = [
    "Choice",
    "StreamedSampler",
    "cifar_fs",
    "class_source",
    "crop_and_mirror",
    "fc100",
    "finish",
    "folder",
    "glyphs",
    "load_images",
    "make_batch",
    "make_episode",
    "make_inputs",
    "omniglot",
    "sinusoid",
    "stream",
    "streamed_source",
]
