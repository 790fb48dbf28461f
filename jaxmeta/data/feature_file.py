"""Features in a file, as few-shot tasks: what an encoder made of a data set, once and for all."""

import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from jaxmeta.data.episodes import array_source
from jaxmeta.types import Source

SPLITS = ("train", "valid", "test")


def features(path: str | os.PathLike[str]) -> dict[str, Source]:
    """The features of a data set, which ``experiments.features`` writes for a run, or you.

    Args:
      path: an ``.npz`` file with ``train_x``, ``valid_x`` and ``test_x``, floating ``[n, d]``, and
        ``train_y``, ``valid_y`` and ``test_y``, the classes ``[n]``, integers or strings.

    Returns:
      The sources ``train``, ``valid`` and ``test``.

    Raises:
      ValueError: the file cannot be read, an array is missing, or arrays do not fit together.

    >>> import tempfile
    >>> arrays = {f"{split}_x": np.eye(4, 3) for split in SPLITS}
    >>> arrays |= {f"{split}_y": ["ant", "ant", "bee", "bee"] for split in SPLITS}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/features.npz", **arrays)
    ...     sources = features(f"{folder}/features.npz")
    >>> sources["test"].classes, sources["test"].data.examples.shape
    (2, (4, 3))
    """
    name, remedy = os.fspath(path), "give an .npz file as experiments.features writes it."
    try:
        # Opened here, because np.load leaves a broken file open.
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"The features '{name}' cannot be read ({error}): {remedy}") from error
    sources = {}
    for split in SPLITS:
        if missing := {f"{split}_x", f"{split}_y"} - set(arrays):
            raise ValueError(f"'{name}' has no array {min(missing)}: {remedy}")
        x, y = arrays[f"{split}_x"], arrays[f"{split}_y"]
        if x.ndim != 2 or x.dtype.kind != "f":
            raise ValueError(
                f"{split}_x in '{name}' has shape {x.shape} and type {x.dtype}, and features are "
                f"floating [n, d]: {remedy}"
            )
        if not np.isfinite(x).all():
            raise ValueError(f"{split}_x in '{name}' has numbers that are not finite: {remedy}")
        width = arrays["train_x"].shape[1]
        if x.shape[1] != width:
            raise ValueError(
                f"{split}_x in '{name}' has features of size {x.shape[1]} and train_x of size "
                f"{width}: {remedy}"
            )
        try:
            sources[split] = array_source(x.astype(np.float32), y)
        except ValueError as error:
            raise ValueError(f"{split}_x and {split}_y in '{name}' do not fit: {error}") from error
    return sources
