"""The protocol by which runs are judged, and what is judged."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxmeta.types import Batch, Key, Metrics, Model, PyTree, Source


class Asked(NamedTuple):
    """Few-shot tasks, and the learner that is to solve them."""

    learner: str
    shots: int
    split: str
    episodes: int


Programs = Callable[[Model, Asked], Callable[[PyTree, PyTree, PyTree, Key], Metrics]]
"""Compiles, for the features of a model, ``(params, state, data, key) -> values of each task``."""


class Protocol(NamedTuple):
    """The protocol by which all runs are judged.

    Attributes:
      split: the split of the images and the tasks.
      learners: names of the learners that solve the tasks.
      shots: support examples per class; each number is evaluated.
      episodes: number of tasks for each learner and number of shots.
      statistics: what normalizes the features: ``"averaged"``, ``"clean"``, or the ``"best"``.
      checkpoint: ``"best"`` by validation, or ``"last"``.
      neighbors: number of neighbors that vote.
      seed: seed of the division into parts.
      data_dir: folder of the data.
      trust: packages whose functions may be named.
    """

    split: str
    learners: Sequence[str]
    shots: Sequence[int]
    episodes: int
    statistics: str
    checkpoint: str
    neighbors: int
    seed: int
    data_dir: str | None
    trust: tuple[str, ...]


class Run(NamedTuple):
    """A trained model.

    Attributes:
      folder: folder of the run, as it was given.
      config: config of the run.
      sources: data of the run.
      model: the model whose outputs are the features.
      params: the model's parameters, under ``"model"``, where learners look for them.
      state: running averages of the model's statistics; before the first step, initial ones.
      step: the step of the checkpoint.
    """

    folder: str
    config: Mapping[str, Any]
    sources: Mapping[str, Source]
    model: Model
    params: PyTree
    state: PyTree
    step: int


class Parts(NamedTuple):
    """Rows of the images that probes are fitted to, selected on, and judged on."""

    fit: np.ndarray
    held_out: np.ndarray
    judged: np.ndarray


class Prepared(NamedTuple):
    """Everything that is to be judged, checked before anything is compiled.

    Attributes:
      protocol: how runs are judged.
      runs: the runs; the first is the reference, and its config has the ways, the queries and the
        seed of the tasks.
      batch: all examples of the split.
      parts: how the examples are divided.
      programs: the programs that solve few-shot tasks.
    """

    protocol: Protocol
    runs: Sequence[Run]
    batch: Batch
    parts: Parts
    programs: Programs
