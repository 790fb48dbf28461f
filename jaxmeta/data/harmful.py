"""A few-shot data set as a desired task beside harmful ones, for models that resist being tuned."""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxmeta.checks import check_count
from jaxmeta.data.combine import paired, without_support
from jaxmeta.data.relabeled import labels_of
from jaxmeta.types import PyTree, Sampler, Source

CHOOSING = {"harmful": "harmful_choosing", "benign": "benign_choosing"}
"""On what split an attack on another is chosen."""


class Uses(NamedTuple):
    """The data of a desired and of a harmful use."""

    desired: PyTree
    harmful: PyTree


def beside_harmful(desired: Source, harmful: Source, ways: int, shots: int, queries: int) -> Source:
    """A source of a desired task with an episode of a harmful one beside it.

    Args:
      desired: the desired task.
      harmful: the harmful ones, which a defender sees.
      ways: classes of a harmful episode.
      shots: its support examples per class.
      queries: its queries per class.

    Returns:
      A source whose ``batches(size)`` draw ``{"desired": Episode, "harmful": Episode}`` for
      :func:`jaxmeta.objectives.blocked`. The desired one has no support set and ``size`` queries of
      all classes, as for :func:`jaxmeta.learners.fixed_classifier`. Its episodes are harmful.

    Raises:
      ValueError: the desired source has no batches, or the harmful one cannot fill such an episode.

    >>> import jax
    >>> from jaxmeta.data import array_source
    >>> letters, faces = array_source([[1.0], [2.0]], [0, 1]), array_source([[3.0]] * 4, [0] * 4)
    >>> source = beside_harmful(letters, faces, ways=1, shots=2, queries=2)
    >>> task = source.batches(5)(source.data, jax.random.key(0))
    >>> task["desired"].query.x.shape, task["harmful"].support.x.shape
    ((5, 1), (2, 1))
    """
    draw_desired, draw_harmful = desired.batches, harmful.episodes(ways, shots, queries)
    if draw_desired is None:
        raise ValueError("The desired task has no batches to draw: give a source of classes.")

    def batches(size: int) -> Sampler:
        both = paired({"desired": without_support(draw_desired(size)), "harmful": draw_harmful})
        return lambda data, key: both(data._asdict(), key)

    def episodes(*given: int, **options: int) -> Sampler:
        draw = harmful.episodes(*given, **options)
        return lambda data, key: draw(data.harmful, key)

    return Source(Uses(desired.data, harmful.data), episodes, batches, classes=desired.classes)


def harmful_classes(
    data: Mapping[str, Source],
    ways: int = 5,
    shots: int = 5,
    queries: int = 1,
    seen: float = 0.3,
    held_out: float = 0.2,
    seed: int = 0,
) -> dict[str, Source]:
    """A few-shot data set whose test classes are harmful, and whose validation classes are benign.

    To tell the training classes apart is the desired task. The defender sees the share ``seen`` of
    the examples of each harmful class, and attackers draw from the others.

    Args:
      data: the sources ``train``, ``valid`` and ``test``; in a config, the spec of a data set.
      ways: classes of a harmful episode that a defender trains on.
      shots: its support examples per class.
      queries: its queries per class.
      seen: the share of each harmful class's examples that a defender sees.
      held_out: the share of each desired class's examples to validate on, and the share to test on.
      seed: of what is drawn.

    Returns:
      Sources by the names

      - ``train``: as of :func:`beside_harmful`;
      - ``valid`` and ``test``: other examples of the desired classes;
      - ``harmful`` and ``harmful_choosing``: the harmful classes in two halves, one to report
        attacks on and one to choose them by, of examples that the defender has not seen;
      - ``benign`` and ``benign_choosing``: the benign classes likewise, of all examples.

    Raises:
      ValueError: the data are not fixed examples, a split is missing, ``seen`` is not between 0 and
        1 or ``held_out`` not between 0 and 0.5, or there are too few examples or classes.

    >>> import jax
    >>> from jaxmeta.data import glyphs
    >>> data = harmful_classes(glyphs(size=8), ways=2, shots=1)
    >>> sorted(data)  # doctest: +NORMALIZE_WHITESPACE
    ['benign', 'benign_choosing', 'harmful', 'harmful_choosing', 'test', 'train', 'valid']
    """
    for name, share, most in (("seen", seen, 1), ("held_out", held_out, 0.5)):
        if not 0 < share < most:
            raise ValueError(f"{name} is {share}: give a share between 0 and {most}.")
    for split in ("train", "valid", "test"):
        if not isinstance(data, Mapping) or split not in data:
            raise ValueError(f"The data have no split '{split}': give a few-shot data set.")
    check_count("seed", seed)
    valid, test, train = _divided(data["train"], (held_out, held_out), seed)
    shown, unseen = _divided(data["test"], (seen,), seed)
    harmful, benign = _halves(unseen), _halves(data["valid"])
    return {
        "train": beside_harmful(train, shown, ways, shots, queries),
        "valid": valid,
        "test": test,
        "harmful": harmful[0],
        "harmful_choosing": harmful[1],
        "benign": benign[0],
        "benign_choosing": benign[1],
    }


def _divided(source: Source, shares: tuple[float, ...], seed: int) -> list[Source]:
    """Sources of the same classes, each with a share of every class's examples; the rest last."""
    labels, relabeled = labels_of(source)
    random = np.random.RandomState(seed)
    parts = np.zeros_like(labels)
    for number in range(labels.max() + 1):
        own = random.permutation(np.flatnonzero(labels == number))
        ends = [0, *np.round(np.cumsum(shares) * len(own)).astype(int), len(own)]
        for part, (begin, end) in enumerate(itertools.pairwise(ends)):
            if begin == end:
                raise ValueError(
                    f"Shares of {shares} leave a part of a class of {len(own)} examples without "
                    "any: give other shares."
                )
            parts[own[begin:end]] = part
    return [relabeled(np.where(parts == part, labels, -1)) for part in range(len(shares) + 1)]


def _halves(source: Source) -> tuple[Source, Source]:
    """Every other class, and the others."""
    labels, relabeled = labels_of(source)
    if labels.max() < 1:
        raise ValueError("There is one class, which has no halves: give two or more.")
    first, second = (np.where(labels % 2 == half, labels // 2, -1) for half in (0, 1))
    return relabeled(first), relabeled(second)
