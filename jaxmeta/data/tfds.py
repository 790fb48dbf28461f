"""Omniglot and CIFAR-100 through TensorFlow Datasets, as the same arrays that the zips give.

The only module that imports ``tensorflow_datasets``, and only when called. Reading a prepared set
needs neither TensorFlow nor OpenCV; preparing it the first time needs ``tensorflow-cpu`` and
``importlib_resources``.
"""

import importlib.util
import io
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from jaxmeta.data.classes import ClassImages, canonical
from jaxmeta.data.images import as_pixels, cached
from jaxmeta.data.streaming import read_record, streamed_source
from jaxmeta.types import Source

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
    return _load("omniglot", (part,), size, True, True, _character_of, data_dir)


def streamed_omniglot(
    parts: Sequence[str], size: int, data_dir: DataDir = None
) -> tuple[Callable[..., Source], list[dict[str, np.ndarray]]]:
    """Several parts of Omniglot, in canonical order, whose images are read when needed.

    The first time, each part is read through once to find its order, which is cached.

    Args:
      parts: each as in :func:`omniglot`.
      size: side in pixels.
      data_dir: TFDS's own data folder; ``None`` is its default.

    Returns:
      ``(classes, decode=..., variants=1) -> Source``, which is
      :func:`~jaxmeta.data.streamed_source` of the records of all parts; and, for each part, its
      classes with the numbers of their records.

    Raises:
      ModuleNotFoundError: a package is not installed.
      RuntimeError: the set could not be downloaded or prepared.
    """
    builder = _prepared("omniglot", data_dir)
    decode = partial(_decode, size=size, grayscale=True, invert=True)
    found, first = [], 0
    for part in parts:
        index = cached(
            "tfds-omniglot-index",
            (str(builder.data_dir), part, size),
            partial(_index, builder, part, _character_of(builder.info.features), decode),
        )
        numbers = np.split(first + index.images, np.cumsum(index.counts)[:-1])
        found.append(dict(zip(index.names, numbers, strict=True)))
        first += len(index.images)
    records, where = _records(builder, "+".join(parts))
    return partial(streamed_source, records, read=decode, where=where), found


def _character_of(features: Any) -> Callable[[Any], str]:
    alphabets = features["alphabet"].names
    # TFDS counts characters from 0 and the folders from 1.
    return lambda row: f"{alphabets[row['alphabet']]}/character{row['alphabet_char_id'] + 1:02d}"


def cifar100(
    size: int, data_dir: DataDir = None, splits: Sequence[str] = ("train", "test")
) -> ClassImages:
    """The images of CIFAR-100, in canonical order.

    Args:
      size: side in pixels; 32 is the original size.
      data_dir: TFDS's own data folder; ``None`` is its default.
      splits: the official parts, all by default.

    Returns:
      Images uint8 ``[n, size, size, 3]``, 500 and 100 for each of the 100 classes in ``train`` and
      in ``test``.

    Raises:
      ModuleNotFoundError: a package is not installed.
      RuntimeError: the set could not be downloaded or prepared.
    """

    def name_of(features: Any) -> Callable[[Any], str]:
        labels = features["label"].names
        return lambda row: labels[row["label"]]

    return _load("cifar100", splits, size, False, False, name_of, data_dir)


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

    def read() -> ClassImages:
        class_of = name_of(builder.info.features)

        def decode(row: Any) -> tuple[str, np.ndarray]:
            return class_of(row), _decode(row, size, grayscale, invert)

        groups: dict[str, list[np.ndarray]] = {}
        for part in parts:
            records, where = _records(builder, part)
            for number in range(len(records)):
                name, pixels = read_record(records, number, decode, where)
                groups.setdefault(name, []).append(pixels)
        counts = np.array([len(group) for group in groups.values()], np.int64)
        images = np.stack([image for group in groups.values() for image in group])
        return canonical(ClassImages(images, counts, tuple(groups)))

    return cached(f"tfds-{name}", (str(builder.data_dir), *parts, size, grayscale, invert), read)


def _records(builder: Any, split: str) -> tuple[Any, Callable[[int], str]]:
    """The records of a split, and a function that names each of them in error messages."""
    import tensorflow_datasets as tfds

    def where(number: int) -> str:
        for shard in builder.info.splits[split].file_instructions:
            if number < shard.take:
                break
            number -= shard.take
        return f"Record {shard.skip + number} of {shard.filename}"

    # TFDS would decode the 1-bit images of Omniglot to 0 and 1; the bytes are left to Pillow.
    skip = {"image": tfds.decode.SkipDecoding()}
    return builder.as_data_source(split=split, decoders=skip), where


def _decode(row: Any, size: int, grayscale: bool, invert: bool) -> np.ndarray:
    return as_pixels(Image.open(io.BytesIO(row["image"])), size, grayscale, invert)


def _index(
    builder: Any, part: str, class_of: Callable[[Any], str], decode: Callable[[Any], np.ndarray]
) -> ClassImages:
    """The numbers of the records in canonical order, keeping only one class's images in memory."""
    records, where = _records(builder, part)

    def pixels(number: int) -> bytes:
        return read_record(records, number, decode, where).tobytes()

    groups: dict[str, list[int]] = {}
    for number in range(len(records)):
        groups.setdefault(read_record(records, number, class_of, where), []).append(number)
    names = sorted(groups)
    order = [number for name in names for number in sorted(groups[name], key=pixels)]
    counts = np.array([len(groups[name]) for name in names], np.int64)
    return ClassImages(np.array(order, np.int64), counts, tuple(names))


def _prepared(name: str, data_dir: DataDir) -> Any:
    """TFDS's builder of the data set, which is downloaded and prepared if necessary."""
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
    except Exception as error:  # TFDS raises errors of many types
        raise RuntimeError(
            f"TensorFlow Datasets could not prepare {name} "
            f"({type(error).__name__}: {str(error)[:200]}); check the network, {instead}."
        ) from error
    return builder
