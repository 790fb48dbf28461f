"""What runs are judged by, and what is judged."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxmeta.types import Batch, Key, Metrics, Model, PyTree, Source


class Asked(NamedTuple):
    """Few-shot tasks, and what is to solve them."""

    learner: str
    shots: int
    split: str
    episodes: int


Programs = Callable[[Model, Asked], Callable[[PyTree, PyTree, PyTree, Key], Metrics]]
"""Compiles, for the features of a model, ``(params, state, data, key) -> values of each task``."""


class Protocol(NamedTuple):
    """What all runs are judged by.

    Attributes:
      split: whose images and tasks.
      learners: what solves the tasks, by name.
      shots: each number is evaluated.
      episodes: how many tasks for each.
      statistics: what normalizes the features: ``"averaged"``, ``"clean"``, or the ``"best"``.
      neighbors: how many vote.
      seed: of the division into parts.
      data_dir: where data lie.
      trust: packages whose functions may be named.
    """

    split: str
    learners: Sequence[str]
    shots: Sequence[int]
    episodes: int
    statistics: str
    neighbors: int
    seed: int
    data_dir: str | None
    trust: tuple[str, ...]


class Run(NamedTuple):
    """A trained model.

    Attributes:
      folder: of the run, as it was given.
      config: its config.
      sources: its data.
      model: whose outputs are the features.
      params: the model's, under ``"model"``, where learners look for them.
      state: the averages of its statistics.
      best_step: the step of the checkpoint.
    """

    folder: str
    config: Mapping[str, Any]
    sources: Mapping[str, Source]
    model: Model
    params: PyTree
    state: PyTree
    best_step: int


class Parts(NamedTuple):
    """Rows of the images that probes are fitted to, chosen on, and judged on."""

    fit: np.ndarray
    held_out: np.ndarray
    judged: np.ndarray


class Prepared(NamedTuple):
    """All that is to be judged, checked, before anything is compiled.

    Attributes:
      protocol: by what.
      runs: the runs; the first is the reference, and its config has the ways, the queries and the
        seed of the tasks.
      batch: all examples of the split.
      parts: how they are divided.
      programs: solve few-shot tasks.
    """

    protocol: Protocol
    runs: Sequence[Run]
    batch: Batch
    parts: Parts
    programs: Programs
