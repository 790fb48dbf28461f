"""Handwritten digits of three domains: MNIST, USPS, and MNIST-M, which is MNIST on photographs."""

import gzip
import io
import math
import os
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from jaxmeta.checks import check_count
from jaxmeta.data.episodes import class_source
from jaxmeta.data.images import find_data
from jaxmeta.types import Source

DataDir = str | os.PathLike[str] | None

HELD_OUT = 10
"""One in so many official training images of each digit is for validation: the last ones."""

NAMES = [str(digit) for digit in range(10)]


def mnist(channels: int = 1, size: int = 28, data_dir: DataDir = None) -> dict[str, Source]:
    """MNIST: 70,000 digits that 500 people wrote.

    All ten digits are in each part. ``test`` is the official one. Of the official training images
    of each digit, the last tenth, rounded down, is ``valid``, and the others are ``train``.

    Args:
      channels: 1, or 3 to have the gray image three times, for models that also take colors.
      size: side in pixels; 28 is the original size. Other sizes are made by Pillow's bilinear
        filter, which also smooths when it shrinks.
      data_dir: the folder that holds ``mnist/`` with the four official files, such as
        ``train-images-idx3-ubyte.gz`` or the same without ``.gz``. ``None`` is
        ``$JAXMETA_DATA_DIR``.

    Returns:
      The sources ``train``, ``valid`` and ``test``, 54,004, 5,996 and 10,000 images
      ``[size, size, channels]``, ink 1 on paper 0.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: ``size`` is not a positive integer, ``channels`` is neither 1 nor 3, or a file is
        not what its name says.

    References:
      LeCun, Bottou, Bengio and Haffner, 1998, Gradient-Based Learning Applied to Document
      Recognition.

    Here with 100 blank images in either part:

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as root:
    ...     folder = Path(root, "mnist")
    ...     folder.mkdir()
    ...     for part in ("train", "t10k"):
    ...         images = bytes([0, 0, 8, 3, 0, 0, 0, 100, 0, 0, 0, 28, 0, 0, 0, 28]) + bytes(78400)
    ...         _ = (folder / f"{part}-images-idx3-ubyte").write_bytes(images)
    ...         labels = bytes([0, 0, 8, 1, 0, 0, 0, 100]) + bytes(range(10)) * 10
    ...         _ = (folder / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    ...     sources = mnist(data_dir=root)
    >>> {part: source.data.examples.shape for part, source in sources.items()}
    {'train': (90, 28, 28, 1), 'valid': (10, 28, 28, 1), 'test': (100, 28, 28, 1)}
    """
    return _gray("mnist", channels, size, data_dir)


def usps(channels: int = 1, size: int = 28, data_dir: DataDir = None) -> dict[str, Source]:
    """USPS: 9,298 digits from the zip codes on envelopes, 16 x 16 pixels.

    The parts are made as those of :func:`mnist`. Digits are not equally frequent: 16 % of the
    training images are zeros, and 7 % are eights.

    Args:
      channels: as in :func:`mnist`.
      size: side in pixels; the images are 16 x 16 and resized by Pillow's bilinear filter.
      data_dir: as in :func:`mnist`, with files of the same names in ``usps/``.

    Returns:
      The sources ``train``, ``valid`` and ``test``, 6,566, 725 and 2,007 images
      ``[size, size, channels]``, ink 1 on paper 0.

    Raises:
      FileNotFoundError, ValueError: as :func:`mnist`.

    References:
      Hull, 1994, A Database for Handwritten Text Recognition Research; the version with 7,291
      training images is that of Hastie, Tibshirani and Friedman, The Elements of Statistical
      Learning.

    Here with 100 blank images in either part:

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as root:
    ...     folder = Path(root, "usps")
    ...     folder.mkdir()
    ...     for part in ("train", "t10k"):
    ...         images = bytes([0, 0, 8, 3, 0, 0, 0, 100, 0, 0, 0, 16, 0, 0, 0, 16]) + bytes(25600)
    ...         _ = (folder / f"{part}-images-idx3-ubyte").write_bytes(images)
    ...         labels = bytes([0, 0, 8, 1, 0, 0, 0, 100]) + bytes(range(10)) * 10
    ...         _ = (folder / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    ...     sources = usps(channels=3, data_dir=root)
    >>> sources["test"].data.examples.shape
    (100, 28, 28, 3)
    """
    return _gray("usps", channels, size, data_dir)


def mnist_m(seed: int = 0, size: int = 28, data_dir: DataDir = None) -> dict[str, Source]:
    r"""MNIST-M: the digits of MNIST on random pieces of photographs, whose colors they invert.

    With p a random crop of a random photograph, as large as the digit x, the image is

    .. math:: |p - 255 \, [x > 0]|

    in each color. Part by part, the digits and their order are those of :func:`mnist`, so that the
    two domains differ in nothing but the background.

    The crops are drawn here, and not those of the authors, whose file is not needed. A seed means
    the same images forever, but for the last bit of a color, where JPEG decoders differ.

    Args:
      seed: seed of the photographs and of the places of the crops.
      size: side in pixels, as in :func:`mnist`; digits and photographs are resized together.
      data_dir: as in :func:`mnist`, also with ``bsds500/``: a zip with the training photographs
        ``train/*.jpg`` of BSDS500, or folders with them. Their order is that of their names.

    Returns:
      The sources ``train``, ``valid`` and ``test``, 54,004, 5,996 and 10,000 images
      ``[size, size, 3]``.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: ``seed`` is negative, a photograph cannot be read or is too small, or as
        :func:`mnist`.

    References:
      Ganin et al., 2016, Domain-Adversarial Training of Neural Networks, section 5.2; Arbelaez,
      Maire, Fowlkes and Malik, 2011, Contour Detection and Hierarchical Image Segmentation
      (BSDS500).

    Here with blank digits on one red photograph:

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as root:
    ...     Path(root, "bsds500", "train").mkdir(parents=True)
    ...     Image.new("RGB", (40, 30), "red").save(Path(root, "bsds500", "train", "0.jpg"))
    ...     folder = Path(root, "mnist")
    ...     folder.mkdir()
    ...     for part in ("train", "t10k"):
    ...         images = bytes([0, 0, 8, 3, 0, 0, 0, 100, 0, 0, 0, 28, 0, 0, 0, 28]) + bytes(78400)
    ...         _ = (folder / f"{part}-images-idx3-ubyte").write_bytes(images)
    ...         labels = bytes([0, 0, 8, 1, 0, 0, 0, 100]) + bytes(range(10)) * 10
    ...         _ = (folder / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    ...     sources = mnist_m(data_dir=root)
    >>> sources["test"].data.examples.shape
    (100, 28, 28, 3)
    """
    check_count("seed", seed)
    check_count("size", size, least=1)
    folder = find_data(data_dir, "bsds500")
    if folder is None:
        raise FileNotFoundError(
            "The photographs of MNIST-M are not there: set --data_dir or JAXMETA_DATA_DIR to the "
            "folder that holds bsds500/ with a zip of train/*.jpg."
        )
    training, test = _read("mnist", data_dir)
    photographs = _photographs(folder, max(training.images.shape[1:] + test.images.shape[1:]))
    blended = []
    for number, digits in enumerate((training, test)):
        # NumPy guarantees that RandomState's stream never changes, but not default_rng's.
        patches = _crops(photographs, digits.images.shape, np.random.RandomState([seed, number]))
        # |p - 255| in unsigned numbers.
        np.subtract(255, patches, out=patches, where=digits.images[..., None] > 0)
        blended.append(_Digits(resized(patches, size), digits.labels))
    return _sources(*blended)


class _Digits(NamedTuple):
    """An official part in its official order.

    Attributes:
      images: uint8 ``[n, height, width]``, or ``[n, height, width, channels]``.
      labels: uint8 ``[n]``.
    """

    images: np.ndarray
    labels: np.ndarray


def _gray(name: str, channels: int, size: int, data_dir: DataDir) -> dict[str, Source]:
    check_count("size", size, least=1)
    if channels not in (1, 3):
        raise ValueError(f"channels is {channels}: give 1 or 3.")
    training, test = (
        _Digits(np.repeat(resized(images, size)[..., None], channels, axis=-1), labels)
        for images, labels in _read(name, data_dir)
    )
    return _sources(training, test)


def _sources(training: _Digits, test: _Digits) -> dict[str, Source]:
    rows, tested = (
        [np.flatnonzero(part.labels == digit) for digit in range(10)] for part in (training, test)
    )
    ends = [len(each) - len(each) // HELD_OUT for each in rows]
    trained = [each[:end] for each, end in zip(rows, ends, strict=True)]
    validated = [each[end:] for each, end in zip(rows, ends, strict=True)]
    return {
        part: class_source(images[np.concatenate(chosen)], [len(each) for each in chosen], NAMES)
        for part, images, chosen in (
            ("train", training.images, trained),
            ("valid", training.images, validated),
            ("test", test.images, tested),
        )
    }


def resized(images: np.ndarray, size: int) -> np.ndarray:
    """Images uint8 ``[n, height, width, ...]`` with new sides, each as Pillow resizes it alone."""
    # Pillow's filter works in whole numbers, so the pixels are the same on every machine. It treats
    # rows apart, and so the rows of all images are resized as one tall image; then the columns.
    for _ in range(2):
        count, height, width, *colors = images.shape
        if width != size:
            tall = Image.fromarray(images.reshape(count * height, width, *colors))
            tall = tall.resize((size, count * height), Image.Resampling.BILINEAR)
            images = np.asarray(tall).reshape(count, height, size, *colors)
        images = images.swapaxes(1, 2)
    return images


def _read(name: str, data_dir: DataDir) -> tuple[_Digits, _Digits]:
    """The official training and test part."""
    folder = find_data(data_dir, name)
    if folder is None:
        raise FileNotFoundError(
            f"{name.upper()} is not there: set --data_dir or JAXMETA_DATA_DIR to the folder that "
            f"holds {name}/ with train-images-idx3-ubyte.gz and the other three files."
        )
    return _read_part(folder, "train"), _read_part(folder, "t10k")


def _read_part(folder: Path, part: str) -> _Digits:
    images = _read_idx(folder, f"{part}-images-idx3-ubyte", axes=3)
    labels = _read_idx(folder, f"{part}-labels-idx1-ubyte", axes=1)
    if len(images) != len(labels):
        raise ValueError(
            f"{folder} has {len(images)} images and {len(labels)} labels of the part '{part}': "
            "fetch both files again."
        )
    if labels.size and labels.max() > 9:
        raise ValueError(
            f"{folder} has the label {labels.max()} in the part '{part}': give labels 0 to 9."
        )
    return _Digits(images, labels)


def _read_idx(folder: Path, name: str, axes: int) -> np.ndarray:
    """The unsigned bytes in an IDX file, as an array of so many axes."""
    path = next((p for p in (folder / f"{name}.gz", folder / name) if p.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"There is no {name}.gz in {folder}: put it there.")
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path} cannot be unpacked ({error}): fetch it again.") from error
    start = 4 + 4 * axes
    shape = [int.from_bytes(data[i : i + 4], "big") for i in range(4, start, 4)]
    # 8 is the type of unsigned bytes.
    if data[:4] != bytes([0, 0, 8, axes]) or len(data) != start + math.prod(shape):
        raise ValueError(
            f"{path} is not an IDX file of bytes with {axes} axes (it begins with "
            f"{data[:4].hex(' ')} and has {len(data)} bytes): fetch it again."
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _photographs(folder: Path, least: int) -> list[np.ndarray]:
    """The training photographs, uint8 ``[height, width, 3]``, in the order of their names."""
    files: dict[str, bytes] = {}
    archives = sorted(folder.glob("*.zip"))
    for path in archives:
        try:
            with zipfile.ZipFile(path) as archive:
                names = filter(_is_training, map(PurePosixPath, archive.namelist()))
                files |= {name.name: archive.read(str(name)) for name in names}
        except (zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path} cannot be read ({error}): fetch it again.") from error
    if not archives:
        files = {path.name: path.read_bytes() for path in folder.rglob("*") if _is_training(path)}
    if not files:
        raise FileNotFoundError(
            f"{folder} holds no training photograph: put a zip of train/*.jpg there."
        )
    photographs = []
    for name in sorted(files):
        try:
            with Image.open(io.BytesIO(files[name])) as image:
                pixels = np.asarray(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:
            raise ValueError(
                f"The photograph {name} in {folder} cannot be read ({error}): fetch it again."
            ) from error
        if min(pixels.shape[:2]) < least:
            raise ValueError(
                f"The photograph {name} in {folder} is {pixels.shape[1]} x {pixels.shape[0]} "
                f"pixels: give only photographs of at least {least} x {least}."
            )
        photographs.append(pixels)
    return photographs


def _is_training(path: PurePosixPath | Path) -> bool:
    # macOS puts hidden files with image suffixes, which are not images, into its zips.
    return path.parent.name == "train" and path.match("*.jpg") and not path.name.startswith(".")


def _crops(
    photographs: list[np.ndarray], shape: tuple[int, ...], random: np.random.RandomState
) -> np.ndarray:
    """Random crops uint8 ``[n, height, width, 3]`` of random photographs.

    Args:
      photographs: uint8 ``[h, w, 3]`` each, no smaller than the crops.
      shape: ``(n, height, width)``.
      random: three numbers are drawn for each crop: its photograph, row and column.
    """
    count, *sides = shape
    drawn = random.random_sample((count, 3))
    chosen = (drawn[:, 0] * len(photographs)).astype(np.int64)
    crops = np.empty((*shape, 3), np.uint8)
    for number, photograph in enumerate(photographs):
        rows = np.flatnonzero(chosen == number)
        windows = sliding_window_view(photograph, sides, axis=(0, 1))
        top, left = (drawn[rows, 1:] * windows.shape[:2]).astype(np.int64).T
        crops[rows] = np.moveaxis(windows[top, left], 1, -1)
    return crops
