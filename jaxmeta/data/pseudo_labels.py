"""Data whose training classes are clusters instead of labels, for unsupervised meta-learning."""

import os
from collections.abc import Mapping

import numpy as np

from jaxmeta.types import Source


def pseudo_labeled(data: Mapping[str, Source], path: str | os.PathLike[str]) -> dict[str, Source]:
    """The same sources, but with the classes of the training source taken from a file.

    Training any learner on tasks of clusters is CACTUs; ``experiments.cluster`` makes the file from
    the features of any run. Validation and test tasks keep their classes.

    Args:
      data: the sources ``train``, ``valid`` and ``test``; in a config, the spec of a data set.
      path: an ``.npy`` file of integers ``[n]``, the class of each training example in the order of
        ``data["train"].data.examples``; -1 leaves one out.

    Raises:
      ValueError: the file cannot be read, its labels differ in number from the training examples,
        or the training source has no fixed examples.

    References:
      Hsu, Levine and Finn, 2019, Unsupervised Learning via Meta-Learning, section 3.

    >>> import tempfile
    >>> from jaxmeta.data import array_source
    >>> animals = array_source([[1.0], [2.0], [3.0]], ["ant", "bee", "cat"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/labels.npy", [0, 0, -1])
    ...     sources = pseudo_labeled({"train": animals}, f"{folder}/labels.npy")
    >>> sources["train"].classes, sources["train"].data.counts.tolist()
    (1, [2])
    """
    try:
        labels = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(
            f"The labels '{os.fspath(path)}' cannot be read ({error}): give an .npy file, as "
            "experiments.cluster writes it."
        ) from error
    if not isinstance(labels, np.ndarray):
        raise ValueError(
            f"'{os.fspath(path)}' holds several arrays: give an .npy file, as experiments.cluster "
            "writes it."
        )
    train = data["train"]
    if train.relabeled is None:
        raise ValueError(
            "The training source has no fixed examples to give other labels: cluster a data set."
        )
    return {**data, "train": train.relabeled(labels)}
