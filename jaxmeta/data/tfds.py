"""Omniglot and CIFAR-100 through TensorFlow Datasets, as the same arrays that the zips give.

The only module that imports ``tensorflow_datasets``, and only when called. Reading a prepared set
needs neither TensorFlow nor OpenCV; preparing it the first time needs ``tensorflow-cpu`` and
``importlib_resources``.
"""

import importlib.util
import io
import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from PIL import Image

from jaxmeta.data.classes import ClassImages, canonical
from jaxmeta.data.images import as_pixels, cached

DataDir = str | os.PathLike[str] | None


def omniglot(part: str, size: int, data_dir: DataDir = None) -> ClassImages:
    """One of TFDS's four parts of Omniglot, ink 255 on paper 0, in canonical order.

    Args:
      part: ``train`` (30 background alphabets), ``test`` (20 evaluation alphabets), ``small1`` or
        ``small2``.
      size: side in pixels.
      data_dir: TFDS's own data folder; ``None`` is its default.

    Returns:
      Images uint8 ``[n, size, size, 1]`` with classes named as in the zips, ``Greek/character01``.

    Raises:
      ModuleNotFoundError: a package is not installed.
      RuntimeError: the set could not be downloaded or prepared.
    """

    def name_of(features: Any) -> Callable[[Any], str]:
        alphabets = features["alphabet"].names
        # TFDS counts characters from 0 and the folders from 1.
        return lambda row: (
            f"{alphabets[row['alphabet']]}/character{row['alphabet_char_id'] + 1:02d}"
        )

    return _load("omniglot", (part,), size, True, True, name_of, data_dir)


def cifar100(size: int, data_dir: DataDir = None) -> ClassImages:
    """All 60,000 images of CIFAR-100, in canonical order.

    Args:
      size: side in pixels; 32 is the images' own.
      data_dir: TFDS's own data folder; ``None`` is its default.

    Returns:
      Images uint8 ``[60000, size, size, 3]``, 600 for each of the 100 classes.

    Raises:
      ModuleNotFoundError: a package is not installed.
      RuntimeError: the set could not be downloaded or prepared.
    """

    def name_of(features: Any) -> Callable[[Any], str]:
        labels = features["label"].names
        return lambda row: labels[row["label"]]

    return _load("cifar100", ("train", "test"), size, False, False, name_of, data_dir)


def _load(
    name: str,
    parts: Iterable[str],
    size: int,
    grayscale: bool,
    invert: bool,
    name_of: Callable[[Any], Callable[[Any], str]],
    data_dir: DataDir,
) -> ClassImages:
    builder = _prepared(name, data_dir)
    import tensorflow_datasets as tfds

    def read() -> ClassImages:
        class_of = name_of(builder.info.features)
        # TFDS would decode the 1-bit images of Omniglot to 0 and 1; the bytes are left to Pillow.
        skip = {"image": tfds.decode.SkipDecoding()}
        groups: dict[str, list[np.ndarray]] = {}
        for part in parts:
            for row in builder.as_data_source(split=part, decoders=skip):
                image = Image.open(io.BytesIO(row["image"]))
                pixels = as_pixels(image, size, grayscale, invert)
                groups.setdefault(class_of(row), []).append(pixels)
        counts = np.array([len(group) for group in groups.values()], np.int64)
        images = np.stack([image for group in groups.values() for image in group])
        return canonical(ClassImages(images, counts, tuple(groups)))

    return cached(f"tfds-{name}", (str(builder.data_dir), *parts, size, grayscale, invert), read)


def _prepared(name: str, data_dir: DataDir) -> Any:
    """TFDS's builder of the data set, downloaded and prepared if it is not yet."""
    instead = f"or set --data_dir or JAXMETA_DATA_DIR to a folder that holds {name}/ as zips"
    if importlib.util.find_spec("tensorflow_datasets") is None:
        raise ModuleNotFoundError(
            f"{name} is not on this machine and TensorFlow Datasets is not installed; "
            f"pip install tensorflow-datasets tensorflow-cpu importlib_resources, {instead}."
        )
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    if builder.is_prepared():
        return builder
    for module, package in (
        ("tensorflow", "tensorflow-cpu"),
        ("importlib_resources", "importlib_resources"),
    ):
        if importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(
                f"TensorFlow Datasets cannot prepare {name} without {module}; "
                f"pip install {package}, {instead}."
            )
    try:
        builder.download_and_prepare()
    except Exception as error:  # TFDS lets through whatever its many parts raise
        raise RuntimeError(
            f"TensorFlow Datasets could not prepare {name} "
            f"({type(error).__name__}: {str(error)[:200]}); check the network, {instead}."
        ) from error
    return builder
