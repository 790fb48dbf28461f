"""CIFAR-100: the few-shot splits CIFAR-FS and FC100, and its 20 superclasses as tasks."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxmeta.checks import check_count
from jaxmeta.data import tfds
from jaxmeta.data.classes import ClassImages, canonical, concatenate, take_classes
from jaxmeta.data.episodes import class_source
from jaxmeta.data.images import find_data, load_images
from jaxmeta.data.many_tasks import task_source
from jaxmeta.types import Source

DataDir = str | os.PathLike[str] | None

COARSE = {
    "aquatic_mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food_containers": "bottle bowl can cup plate",
    "fruit_and_vegetables": "apple mushroom orange pear sweet_pepper",
    "household_electrical_devices": "clock keyboard lamp telephone television",
    "household_furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large_carnivores": "bear leopard lion tiger wolf",
    "large_man-made_outdoor_things": "bridge castle house road skyscraper",
    "large_natural_outdoor_scenes": "cloud forest mountain plain sea",
    "large_omnivores_and_herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium_mammals": "fox porcupine possum raccoon skunk",
    "non-insect_invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small_mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles_1": "bicycle bus motorcycle pickup_truck train",
    "vehicles_2": "lawn_mower rocket streetcar tank tractor",
}
"""The 20 superclasses, each of five classes."""

CIFAR_FS = {
    "train": """
        apple aquarium_fish bear bee bottle bowl boy bridge bus can castle caterpillar chair
        clock cloud cockroach couch cup dinosaur dolphin elephant forest girl hamster house
        kangaroo keyboard lawn_mower lion lizard lobster mountain mouse mushroom oak_tree
        orange orchid palm_tree pear pine_tree plate porcupine possum rabbit raccoon ray
        road seal shrew skunk skyscraper snake spider squirrel streetcar sunflower tank
        tiger train trout tulip turtle willow_tree wolf
    """,
    "valid": """
        beaver beetle butterfly camel cattle crab crocodile flatfish lamp maple_tree
        motorcycle otter sea shark television tractor
    """,
    "test": """
        baby bed bicycle chimpanzee fox leopard man pickup_truck plain poppy rocket rose
        snail sweet_pepper table telephone wardrobe whale woman worm
    """,
}
"""Classes of each part (Bertinetto et al., 2019)."""

FC100 = {
    "train": """
        fish flowers food_containers fruit_and_vegetables household_electrical_devices
        household_furniture large_man-made_outdoor_things large_natural_outdoor_scenes
        reptiles trees vehicles_1 vehicles_2
    """,
    "valid": """
        large_carnivores large_omnivores_and_herbivores non-insect_invertebrates
        small_mammals
    """,
    "test": "aquatic_mammals insects medium_mammals people",
}
"""Superclasses of each part (Oreshkin et al., 2018)."""


def cifar_fs(size: int = 32, data_dir: DataDir = None) -> dict[str, Source]:
    """CIFAR-FS: 64, 16 and 20 classes drawn at random.

    Args:
      size: side in pixels; 32 is the original size.
      data_dir: a folder with ``cifar100/*.zip``, zips of ``<class>/<train or test>/<name>.webp``
        (or the folders they unpack to, ``cifar100/<class>``), or else a TFDS data folder. ``None``
        is ``$JAXMETA_DATA_DIR`` if it holds them, else TFDS's default.

    Returns:
      The sources ``train``, ``valid`` and ``test``, of images ``[size, size, 3]``.

    Raises:
      ValueError: ``size`` is not a positive integer, or a class is missing from the data.
      FileNotFoundError, ModuleNotFoundError, RuntimeError: the data cannot be found or fetched.

    References:
      Bertinetto, Henriques, Torr and Vedaldi, 2019, Meta-learning with Differentiable Closed-Form
      Solvers.

    Here with one blank image of each class, in its own folder:

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from unittest import mock
    >>> from PIL import Image
    >>> with TemporaryDirectory() as root, mock.patch.dict("os.environ", JAXMETA_CACHE_DIR=root):
    ...     for name in " ".join(COARSE.values()).split():
    ...         Path(root, "cifar100", name).mkdir(parents=True)
    ...         Image.new("RGB", (32, 32)).save(Path(root, "cifar100", name, "0.png"))
    ...     sources = cifar_fs(data_dir=root)
    >>> {part: source.classes for part, source in sources.items()}
    {'train': 64, 'valid': 16, 'test': 20}
    """
    return _sources({part: names.split() for part, names in CIFAR_FS.items()}, size, data_dir)


def fc100(size: int = 32, data_dir: DataDir = None) -> dict[str, Source]:
    """FC100: 60, 20 and 20 classes split by superclass, so that the test classes are farther away.

    Args:
      size: side in pixels; 32 is the original size.
      data_dir: as in :func:`cifar_fs`.

    Returns:
      The sources ``train``, ``valid`` and ``test``, of images ``[size, size, 3]``.

    Raises:
      ValueError: ``size`` is not a positive integer, or a class is missing from the data.
      FileNotFoundError, ModuleNotFoundError, RuntimeError: the data cannot be found or fetched.

    References:
      Oreshkin, Rodriguez and Lacoste, 2018, TADAM: Task Dependent Adaptive Metric for Improved
      Few-Shot Learning.

    Here with one blank image of each class, in its own folder:

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from unittest import mock
    >>> from PIL import Image
    >>> with TemporaryDirectory() as root, mock.patch.dict("os.environ", JAXMETA_CACHE_DIR=root):
    ...     for name in " ".join(COARSE.values()).split():
    ...         Path(root, "cifar100", name).mkdir(parents=True)
    ...         Image.new("RGB", (32, 32)).save(Path(root, "cifar100", name, "0.png"))
    ...     sources = fc100(data_dir=root)
    >>> {part: source.classes for part, source in sources.items()}
    {'train': 60, 'valid': 20, 'test': 20}
    """
    return _sources(fc100_classes(), size, data_dir)


def fc100_classes() -> dict[str, list[str]]:
    """The classes of each part of FC100."""
    return {
        part: sorted(fine for name in names.split() for fine in COARSE[name].split())
        for part, names in FC100.items()
    }


def cifar100_tasks(size: int = 32, data_dir: DataDir = None) -> dict[str, Source]:
    """CIFAR-100 as 20 tasks: telling the five classes of each superclass apart.

    ``test`` has the official 100 test images of each class. Of its 500 training images, 50 drawn at
    random, always the same, are ``valid``.

    Args:
      size: side in pixels; 32 is the original size.
      data_dir: as in :func:`cifar_fs`.

    Returns:
      Sources of 20 tasks, as of :func:`jaxmeta.data.task_source`, by the names ``train``, ``valid``
      and ``test``; tasks and classes are in the order of :data:`jaxmeta.data.cifar.COARSE`.

    Raises:
      ValueError, FileNotFoundError, ModuleNotFoundError, RuntimeError: as for :func:`cifar_fs`.

    References:
      Rosenbaum, Klinger and Riemer, 2018, Routing Networks; Yu et al., 2020, Gradient Surgery for
      Multi-Task Learning, section 6.1 (the tasks).

    Here with two blank images of each class:

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from unittest import mock
    >>> from PIL import Image
    >>> with TemporaryDirectory() as root, mock.patch.dict("os.environ", JAXMETA_CACHE_DIR=root):
    ...     for name in " ".join(COARSE.values()).split():
    ...         for part in ("train/0", "train/1", "test/0"):
    ...             path = Path(root, "cifar100", name, f"{part}.png")
    ...             path.parent.mkdir(parents=True, exist_ok=True)
    ...             Image.new("RGB", (32, 32)).save(path)
    ...     sources = cifar100_tasks(data_dir=root)
    >>> {part: (source.tasks, source.classes) for part, source in sources.items()}
    {'train': (20, 5), 'valid': (20, 5), 'test': (20, 5)}
    """
    check_count("size", size, least=1)
    names = " ".join(COARSE.values()).split()
    training, test = (take_classes(_load_part(part, size, data_dir), names) for part in PARTS)
    ends = np.cumsum(training.counts)
    rows = [np.arange(end - count, end) for end, count in zip(ends, training.counts, strict=True)]
    # As RandomState's stream never changes. One image of ten, and at least one.
    rows = [np.random.RandomState(i).permutation(each) for i, each in enumerate(rows)]
    held_out = [each[: max(len(each) // 10, 1)] for each in rows]
    kept = [np.sort(each[len(out) :]) for each, out in zip(rows, held_out, strict=True)]

    def source(images: np.ndarray, counts: Sequence[int]) -> Source:
        return task_source(images, np.reshape(counts, (len(COARSE), -1)), [*COARSE])

    return {
        "train": source(training.images[np.concatenate(kept)], [*map(len, kept)]),
        "valid": source(training.images[np.concatenate(held_out)], [*map(len, held_out)]),
        "test": source(test.images, test.counts.tolist()),
    }


PARTS = ("train", "test")


def _load_part(part: str, size: int, data_dir: DataDir) -> ClassImages:
    """The images of all classes in one official part."""
    found = _found(data_dir)
    if not found:
        return tfds.cifar100(size, data_dir, (part,))
    halves = canonical(concatenate(load_images(path, size) for path in found))
    names = [name for name in halves.names if name.endswith(f"/{part}")]
    own = take_classes(halves, names)
    return own._replace(names=tuple(name.removesuffix(f"/{part}") for name in names))


def _sources(split: Mapping[str, Sequence[str]], size: int, data_dir: DataDir) -> dict[str, Source]:
    check_count("size", size, least=1)
    data = _load(size, data_dir)
    return {part: class_source(*take_classes(data, names)) for part, names in split.items()}


def _load(size: int, data_dir: DataDir) -> ClassImages:
    """All classes, from zips, their folders or TFDS, in canonical order."""
    found = _found(data_dir)
    if not found:
        return tfds.cifar100(size, data_dir)
    # The halves "apple/train" and "apple/test" of a class are merged.
    return canonical(
        concatenate(load_images(path, size) for path in found), lambda name: name.split("/")[0]
    )


def _found(data_dir: DataDir) -> list[Path]:
    """The zips or the folder that hold the images; none if TFDS has to fetch them."""
    root = find_data(data_dir, "cifar100")
    found = sorted(root.glob("*.zip")) if root else []
    # TFDS also calls its folder cifar100, but has no class folders in it.
    if root and not found and any((root / c).is_dir() for c in " ".join(COARSE.values()).split()):
        found = [root]
    return found
