"""The loop around the outer loop: log, validate, save, resume, stop on a signal, abort on NaN."""

import math
import os
import pathlib
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxmeta.distributed.processes import barrier, from_primary, global_max, is_primary
from jaxmeta.evaluate import Evaluation
from jaxmeta.runs import checkpoint
from jaxmeta.runs.signals import Interruption
from jaxmeta.runs.writers import Writer
from jaxmeta.train import TrainState, Update, first_non_finite
from jaxmeta.types import Key, PyTree


class Diverged(Exception):
    """A loss, a gradient or a parameter is no longer finite."""


class Stopped(Exception):
    """A signal arrived, and the run was saved."""

    def __init__(self, number: int, step: int):
        name = signal.Signals(number).name
        super().__init__(f"Stopped by {name} and saved at step {step}: run it again to resume.")


def fit(
    update: Update,
    train_state: TrainState,
    data_from: Callable[[int], PyTree],
    key: Key,
    *,
    folder: str | os.PathLike[str],
    steps: int,
    log_every: int,
    validate: Callable[[TrainState], Mapping[str, Evaluation]],
    validate_every: int,
    higher_is_better: bool = True,
    writers: Sequence[Writer] = (),
) -> TrainState:
    """Takes the remaining outer steps, continuing from the last checkpoint in the folder.

    Every validation is followed by a checkpoint; the last two and the best are kept. A run that
    was stopped in whatever way and is called again with the same arguments takes exactly the steps
    that an uninterrupted run would have taken.

    Args:
      update: the outer loop, as :func:`jaxmeta.train.outer_loop` compiles it.
      train_state: the train state before the first step.
      data_from: ``(step) -> data``, the data for ``update`` from a step on.
      key: the training key.
      folder: folder of the run; checkpoints go to ``checkpoints`` in it.
      steps: total number of outer steps.
      log_every: number of steps in a compiled call, and between metrics.
      validate: evaluates a train state; the first of its metrics chooses the best checkpoint.
      validate_every: number of steps between validations, a multiple of ``log_every``.
      higher_is_better: whether a higher validation score is better.
      writers: what metrics are passed to; see :mod:`jaxmeta.runs.writers`. Of several processes,
        only the first one writes.

    Returns:
      The train state after the last step.

    Raises:
      Diverged: a loss, a gradient or a parameter is not finite.
      Stopped: SIGTERM or SIGINT arrived; the steps in progress were completed and saved.
      OSError: a checkpoint could not be written.
    """
    folder = pathlib.Path(folder)
    heard = _Writers(writers if is_primary() else ())
    opened = checkpoint.open_checkpoints(folder / "checkpoints", higher_is_better)
    with opened as checkpoints, Interruption() as interruption, heard:
        info: dict[str, Any] = {"train_seconds": 0.0, "validation": None}
        saved = from_primary(checkpoints.latest_step())
        if saved is not None:
            train_state, info = checkpoint.load(checkpoints, saved, train_state)
        step = int(train_state.step)
        heard.resume(step)
        data = data_from(step)
        while step < steps:
            began = time.monotonic()
            count = min(log_every, steps - step)
            train_state, metrics = update(train_state, data, key, count)
            bad = first_non_finite(metrics, (train_state.params, train_state.state))
            if bad is not None:
                raise Diverged(_diverged(step + bad + 1, checkpoints.latest_step(), folder))
            step += count
            heard.write(step, _means(metrics))
            due = step % validate_every == 0 or step == steps
            score = math.nan
            if due:
                scores = validate(train_state)
                heard.write(step, _named(scores))
                score = info["validation"] = next(iter(scores.values())).mean
            info["train_seconds"] += time.monotonic() - began
            # Signals may reach one process now and another only after its next steps.
            stopped = global_max(interruption.signal or 0)
            if due or stopped:
                checkpoint.save(checkpoints, step, train_state, info, score)
            if stopped:
                barrier("stopping")
                raise Stopped(stopped, step)
        if saved is None and step == 0:
            checkpoint.save(checkpoints, step, train_state, info)
    return train_state


class _Writers:
    """All writers as one, including the methods that not every writer has."""

    def __init__(self, writers: Sequence[Writer]):
        self._writers = writers

    def __enter__(self) -> "_Writers":
        return self

    def __exit__(self, *_: Any) -> None:
        for writer in self._writers:
            getattr(writer, "close", lambda: None)()

    def resume(self, step: int) -> None:
        for writer in self._writers:
            getattr(writer, "resume", lambda step: None)(step)

    def write(self, step: int, metrics: Mapping[str, Any]) -> None:
        for writer in self._writers:
            writer.write(step, metrics)


def _means(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Means over the steps just taken; values for each inner step as lists."""
    return {
        f"train/{name}": np.mean(np.asarray(values, np.float64), axis=0).tolist()
        for name, values in metrics.items()
    }


def _named(scores: Mapping[str, Evaluation]) -> dict[str, float]:
    figures = {}
    for name, score in scores.items():
        figures[f"validation/{name}"] = score.mean
        figures[f"validation/{name}_ci95"] = score.ci95
    return figures


def _diverged(step: int, saved: int | None, folder: pathlib.Path) -> str:
    kept = f"the last good checkpoint is step {saved} in '{folder}/checkpoints'"
    if saved is None:
        kept = "no checkpoint was saved yet"
    return (
        f"the loss, its gradient or a parameter is not finite at step {step}; {kept}; try a "
        "smaller learning rate (of the optimizer or of the inner loop), fewer inner steps, or "
        "clipped gradients (optax.chain of optax.clip_by_global_norm and the optimizer)."
    )
