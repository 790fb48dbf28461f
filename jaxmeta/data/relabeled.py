"""Data sets whose training examples have other labels, or are fewer: controls for experiments."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxmeta.checks import check_count
from jaxmeta.types import Source


def shuffled_labels(data: Mapping[str, Source], seed: int = 0) -> dict[str, Source]:
    """The same sources, with the labels of the training examples exchanged at random.

    Classes keep their sizes and lose their meaning. Validation and test tasks stay as they are.

    Args:
      data: the sources ``train``, ``valid`` and ``test``; in a config, the spec of a data set.
      seed: seed of the permutation.

    Raises:
      ValueError: the training source has no fixed examples.

    >>> from jaxmeta.data import array_source
    >>> data = {"train": array_source(np.arange(6.0)[:, None], [0, 0, 0, 1, 1, 1])}
    >>> shuffled_labels(data)["train"].data.examples.ravel().tolist()
    [1.0, 2.0, 4.0, 0.0, 3.0, 5.0]
    """
    labels, relabeled = labels_of(data["train"])
    return {**data, "train": relabeled(np.random.RandomState(seed).permutation(labels))}


def fewer_examples(
    data: Mapping[str, Source], classes: int, examples: int, seed: int = 0
) -> dict[str, Source]:
    """The same sources, with some of the training classes and some examples of each.

    Args:
      data: the sources ``train``, ``valid`` and ``test``; in a config, the spec of a data set.
      classes: how many classes, drawn at random; more of the same seed include fewer.
      examples: how many examples of each, drawn at random likewise.
      seed: seed of both.

    Raises:
      ValueError: the training source has no fixed examples, or not so many.

    >>> from jaxmeta.data import array_source
    >>> data = {"train": array_source([[1.0], [2.0], [3.0], [4.0]], [0, 0, 1, 1])}
    >>> source = fewer_examples(data, classes=1, examples=2)["train"]
    >>> source.classes, source.data.examples.ravel().tolist()
    (1, [3.0, 4.0])
    """
    check_count("classes", classes, least=1)
    check_count("examples", examples, least=1)
    labels, relabeled = labels_of(data["train"])
    random = np.random.RandomState(seed)
    order = random.permutation(labels.max() + 1)
    if classes > len(order):
        raise ValueError(
            f"classes is {classes}, but the training source has {len(order)}: give fewer."
        )
    kept = np.full_like(labels, -1)
    for place, number in enumerate(order):  # all are drawn, so that fewer are among more
        own = random.permutation(np.flatnonzero(labels == number))
        if place < classes:
            if examples > len(own):
                raise ValueError(f"examples is {examples}, but a class has {len(own)}: give fewer.")
            kept[own[:examples]] = place
    return {**data, "train": relabeled(kept)}


def labels_of(source: Source) -> tuple[np.ndarray, Callable[[Any], Source]]:
    """The labels of a source's examples, and what gives them others.

    Raises:
      ValueError: it has no fixed examples.
    """
    if source.relabeled is None:
        raise ValueError("A source has no fixed examples to give other labels: give a data set.")
    counts = np.asarray(source.data.counts)
    return np.repeat(np.arange(counts.size), counts), source.relabeled
