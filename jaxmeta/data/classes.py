"""Images sorted by class, on the host: splitting, choosing and ordering the classes."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np


class ClassImages(NamedTuple):
    """Images sorted by class, on the host.

    Attributes:
      images: uint8 ``[n, size, size, channels]``; or int64 ``[n]``, the number of the record that
        holds each image.
      counts: int64 ``[classes]``, the number of images of each class, in the order of ``images``.
      names: what each class is called.
    """

    images: np.ndarray
    counts: np.ndarray
    names: tuple[str, ...]


def random_split(
    names: Sequence[str], fractions: tuple[float, float, float], seed: int
) -> dict[str, list[str]]:
    """Shuffles the classes and cuts them into ``train``, ``valid`` and ``test``.

    Args:
      names: names of the classes.
      fractions: the share of each part, summing to 1; boundaries are rounded.
      seed: seed of the shuffle.

    Raises:
      ValueError: the fractions are not positive or do not sum to 1, or a part is left empty.
    """
    if min(fractions) <= 0 or not np.isclose(sum(fractions), 1):
        raise ValueError(f"Fractions {fractions} must be positive and sum to 1; change them.")
    first, second = np.round(np.cumsum(fractions)[:2] * len(names)).astype(int)
    order = shuffled(names, seed)
    parts = {"train": order[:first], "valid": order[first:second], "test": order[second:]}
    empty = [part for part, chosen in parts.items() if not chosen]
    if empty:
        raise ValueError(
            f"Fractions {fractions} of {len(names)} classes leave none for {empty[0]}; "
            "add classes or change the fractions."
        )
    return parts


def shuffled(names: Sequence[str], seed: int) -> list[str]:
    """The names in an order that is the same on every machine, forever."""
    # NumPy guarantees that RandomState's stream never changes, but not default_rng's.
    return [names[i] for i in np.random.RandomState(seed).permutation(len(names))]


def take_classes(data: ClassImages, names: Sequence[str]) -> ClassImages:
    """Only the classes of these names, in this order.

    Raises:
      ValueError: a class is missing.
    """
    index = {name: i for i, name in enumerate(data.names)}
    missing = [name for name in names if name not in index]
    if missing:
        raise ValueError(f"The images have no class {missing[0]!r}; fetch the data again.")
    chosen = [index[name] for name in names]
    ends = np.cumsum(data.counts)
    rows = [np.arange(ends[i] - data.counts[i], ends[i]) for i in chosen]
    images = data.images[np.concatenate(rows)] if rows else data.images[:0]
    return ClassImages(images, data.counts[chosen], tuple(names))


def canonical(data: ClassImages, class_of: Callable[[str], str] = str) -> ClassImages:
    """The same images in an order that depends only on the pixels and class names.

    Folders, zips and TFDS list the same images in different orders; sorting classes by name, and
    images by their bytes, makes a key mean the same episode whichever they came from.

    Args:
      data: images sorted by class.
      class_of: renames a class; classes given the same name are merged.
    """
    ends = np.cumsum(data.counts)
    rows: dict[str, list[int]] = {}
    for name, end, count in zip(data.names, ends, data.counts, strict=True):
        rows.setdefault(class_of(name), []).extend(range(end - count, end))
    names = sorted(rows)
    order = [i for n in names for i in sorted(rows[n], key=lambda i: data.images[i].tobytes())]
    counts = np.array([len(rows[name]) for name in names], np.int64)
    return ClassImages(data.images[order], counts, tuple(names))


def concatenate(parts: Iterable[ClassImages]) -> ClassImages:
    """Concatenates images, one part after the other."""
    images, counts, names = zip(*parts, strict=True)
    return ClassImages(np.concatenate(images), np.concatenate(counts), sum(names, ()))
