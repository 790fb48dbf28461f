"""Omniglot (Lake, Salakhutdinov and Tenenbaum, 2015): 1,623 characters, 20 drawings of each."""

import os
from collections.abc import Sequence

from jaxmeta.checks import check_count
from jaxmeta.data import tfds
from jaxmeta.data.classes import ClassImages, canonical, concatenate, shuffled, take_classes
from jaxmeta.data.decode import rotated
from jaxmeta.data.episodes import class_source
from jaxmeta.data.images import find_data, load_images
from jaxmeta.types import Source

CHARACTER_SPLITS = {"characters": (1100, 100, 423), "vinyals": (1028, 172, 423)}
"""Numbers of the shuffled characters for training, validation and test."""

ALPHABET_SPLITS = {
    "alphabets": "images_background",
    "background_small1": "images_background_small1",
    "background_small2": "images_background_small2",
}
"""The archive for training and validation; ``images_evaluation`` is for test."""

_TFDS_PARTS = {
    "images_background": "train",
    "images_evaluation": "test",
    "images_background_small1": "small1",
    "images_background_small2": "small2",
}


def omniglot(
    split: str = "characters",
    size: int = 28,
    rotations: bool = True,
    data_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    streamed: bool = False,
) -> dict[str, Source]:
    """Omniglot as few-shot tasks. Always report the split: accuracy differs by percentage points.

    - ``characters``: all 1,623 characters shuffled; 1,200 to learn from, with the last 100 held out
      for validation, and 423 for test (Santoro et al., 2016; Finn et al., "MAML", 2017).
    - ``vinyals``: 1,028, 172 and 423 characters, the sizes of Vinyals et al. ("Matching Networks",
      2016). Their list did not come with the paper; this is a seeded shuffle cut to those sizes.
    - ``alphabets``: whole alphabets are kept apart (Lake et al., 2015): 24 background alphabets,
      the other 6 for validation, and the 20 evaluation alphabets for test.
    - ``background_small1``, ``background_small2``: the same with one of the two minimal sets of
      five alphabets, 4 for training and 1 for validation.

    Args:
      split: which of the above.
      size: side in pixels; the drawings are 105 x 105 and resized with a Lanczos filter.
      rotations: make each quarter turn a class of its own, in all three parts.
      data_dir: a folder with ``omniglot/images_background.zip`` and the like (or the folders they
        unpack to), or else a TFDS data folder. ``None`` is ``$JAXMETA_DATA_DIR`` if it holds
        them, else TFDS's default.
      seed: seed of the shuffle of the characters, or of the alphabets.
      streamed: read images from TFDS when an episode needs them, as for data sets that do not fit
        on the device (:func:`~jaxmeta.data.stream`); zips and folders are ignored. A key still
        means the same episode.

    Returns:
      The sources ``train``, ``valid`` and ``test``, of images ``[size, size, 1]`` with ink 1 on
      paper 0.

    Raises:
      ValueError: there is no such split, or ``size`` is not a positive integer.
      FileNotFoundError, ModuleNotFoundError, RuntimeError: the data cannot be found or fetched.

    Here with seven blank drawings, in folders like those that the archives unpack to:

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from unittest import mock
    >>> from PIL import Image
    >>> with TemporaryDirectory() as root, mock.patch.dict("os.environ", JAXMETA_CACHE_DIR=root):
    ...     for name in (*("background/" + a for a in "ABCDE"), *("evaluation/" + a for a in "FG")):
    ...         path = Path(root, "omniglot", f"images_{name}", "character01")
    ...         path.mkdir(parents=True)
    ...         Image.new("L", (105, 105), "white").save(path / "0.png")
    ...     sources = omniglot("alphabets", rotations=False, data_dir=root)
    >>> {part: source.classes for part, source in sources.items()}
    {'train': 4, 'valid': 1, 'test': 2}
    """
    if split not in [*CHARACTER_SPLITS, *ALPHABET_SPLITS]:
        choices = ", ".join([*CHARACTER_SPLITS, *ALPHABET_SPLITS])
        raise ValueError(f"Omniglot has no split {split!r}; choose one of {choices}.")
    check_count("size", size, least=1)
    archives = (ALPHABET_SPLITS.get(split, "images_background"), "images_evaluation")
    if streamed:
        source, (learned, judged) = tfds.streamed_omniglot(
            [_TFDS_PARTS[archive] for archive in archives], size, data_dir
        )
        parts = split_characters(split, list(learned), list(judged), seed)
        classes = {**learned, **judged}
        return {
            part: source({name: classes[name] for name in names}, **rotated(rotations))
            for part, names in parts.items()
        }
    background, evaluation = (_load(archive, size, data_dir) for archive in archives)
    parts = split_characters(split, background.names, evaluation.names, seed)
    data = canonical(concatenate([background, evaluation]))
    return {
        part: class_source(*take_classes(data, names), **rotated(rotations))
        for part, names in parts.items()
    }


def split_characters(
    split: str, background: Sequence[str], evaluation: Sequence[str], seed: int
) -> dict[str, list[str]]:
    """Which characters each part of a split has.

    Args:
      split: as in :func:`omniglot`.
      background: characters to learn from, ``Greek/character01``, in any order.
      evaluation: characters of the evaluation alphabets.
      seed: seed of the shuffle.

    Raises:
      ValueError: there are too few or too many characters.
    """
    if split in CHARACTER_SPLITS:
        train, valid, test = CHARACTER_SPLITS[split]
        order = shuffled(sorted([*background, *evaluation]), seed)
        if len(order) != train + valid + test:
            raise ValueError(
                f"Omniglot has {train + valid + test} characters and {len(order)} were found; "
                "fetch the archives again."
            )
        return {
            "train": order[:train],
            "valid": order[train : train + valid],
            "test": order[train + valid :],
        }
    alphabets = shuffled(sorted({_alphabet(name) for name in background}), seed)
    held_out = alphabets[: len(alphabets) // 5]
    return {
        "train": [name for name in sorted(background) if _alphabet(name) not in held_out],
        "valid": [name for name in sorted(background) if _alphabet(name) in held_out],
        "test": sorted(evaluation),
    }


def _alphabet(name: str) -> str:
    return name.split("/")[0]


def _load(archive: str, size: int, data_dir: str | os.PathLike[str] | None) -> ClassImages:
    """One archive, ink 255 on paper 0, from its zip, its folder or TFDS."""
    root = find_data(data_dir, "omniglot")
    for path in (root / f"{archive}.zip", root / archive) if root else ():
        if path.exists():
            return load_images(path, size, grayscale=True, invert=True)
    return tfds.omniglot(_TFDS_PARTS[archive], size, data_dir)
