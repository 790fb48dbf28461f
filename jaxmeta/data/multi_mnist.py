"""Two digits in one image, which of them stands at the top left and at the bottom right."""

import os

import numpy as np

from jaxmeta.data.digits import mnist, resized
from jaxmeta.data.many_tasks import task_source
from jaxmeta.types import Source

SIDE, CANVAS = 28, 36
TASKS = ("top_left", "bottom_right")


def multi_mnist(seed: int = 0, data_dir: str | os.PathLike[str] | None = None) -> dict[str, Source]:
    """Multi-MNIST: two overlapping digits, and a task for each.

    Every digit of MNIST is placed at the top left of 36 x 36 pixels, and another of the same part,
    drawn at random, at the bottom right. Where they overlap, the brighter is taken. Images are then
    resized to 28 x 28 pixels by a bilinear filter. An image belongs to both tasks.

    Args:
      seed: seed of the pairs.
      data_dir: as in :func:`jaxmeta.data.mnist`.

    Returns:
      Sources of two tasks of ten classes, as of :func:`jaxmeta.data.task_source`, by the names
      ``train``, ``valid`` and ``test``: 54,004, 5,996 and 10,000 images ``[28, 28, 1]`` each.

    Raises:
      FileNotFoundError, ValueError: as for :func:`jaxmeta.data.mnist`.

    References:
      Sabour, Frosst and Hinton, 2017, Dynamic Routing Between Capsules; Sener and Koltun, 2018,
      Multi-Task Learning as Multi-Objective Optimization, section 5.1 (this variant).

    Here with 100 blank images in either part:

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as root:
    ...     folder = Path(root, "mnist")
    ...     folder.mkdir()
    ...     for part in ("train", "t10k"):
    ...         images = bytes([0, 0, 8, 3, 0, 0, 0, 100, 0, 0, 0, 28, 0, 0, 0, 28]) + bytes(78400)
    ...         _ = (folder / f"{part}-images-idx3-ubyte").write_bytes(images)
    ...         labels = bytes([0, 0, 8, 1, 0, 0, 0, 100]) + bytes(range(10)) * 10
    ...         _ = (folder / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    ...     sources = multi_mnist(data_dir=root)
    >>> {part: source.data.examples.shape for part, source in sources.items()}
    {'train': (180, 28, 28, 1), 'valid': (20, 28, 28, 1), 'test': (200, 28, 28, 1)}
    """
    # RandomState's stream never changes.
    random = np.random.RandomState(seed)
    return {part: _overlaid(source, random) for part, source in mnist(data_dir=data_dir).items()}


def _overlaid(source: Source, random: np.random.RandomState) -> Source:
    images, counts = np.asarray(source.data.examples), np.asarray(source.data.counts)
    labels = np.repeat(np.arange(len(counts)), counts)
    other = random.permutation(len(images))
    canvas = np.zeros((len(images), CANVAS, CANVAS, 1), np.uint8)
    canvas[:, :SIDE, :SIDE] = images
    end = canvas[:, CANVAS - SIDE :, CANVAS - SIDE :]
    np.maximum(end, images[other], out=end)
    small = resized(canvas[..., 0], SIDE)[..., None]
    order = np.argsort(labels[other], kind="stable")  # the top left digits are sorted already
    numbers = [counts, np.bincount(labels[other], minlength=len(counts))]
    return task_source(np.concatenate([small, small[order]]), np.stack(numbers), TASKS)
