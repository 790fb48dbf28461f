"""Where metrics go: a progress bar, a file of JSON lines, TensorBoard; and a warning of collapse.

A writer is anything with ``write(step, metrics)``, so your own tracker takes three lines::

    class WeightsAndBiases:
        def write(self, step, metrics):
            wandb.log(metrics, step=step)

Two more methods are called if a writer has them: ``resume(step)`` before the first metrics, with
the number of steps kept from an earlier run, and ``close()`` at the end.
"""

import json
import pathlib
import sys
from collections.abc import Mapping
from typing import Any, Protocol

from jaxmeta.runs.workdir import write_atomically

COLLAPSED = 0.1
"""The spread below which outputs count as collapsed; 1 is isotropic."""


class Writer(Protocol):
    """Anything that metrics can be passed to."""

    def write(self, step: int, metrics: Mapping[str, Any], /) -> None:
        """Takes the metrics after a step.

        Args:
          step: number of outer steps taken.
          metrics: floats by name, as in ``"train/loss"`` and ``"validation/accuracy"``; values of
            an inner loop are lists with one entry per step.
        """


class JsonLines:
    """Writes ``{"step": ..., "train/loss": ...}``, a line for each call.

    The file holds no times, so a run resumed after a crash writes the same lines as an
    uninterrupted one: lines of steps that were lost are dropped when it resumes.

    >>> import tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "metrics.jsonl"
    >>> lines = JsonLines(path)
    >>> lines.resume(0)
    >>> lines.write(10, {"train/loss": 0.5})
    >>> read_json_lines(path)
    [{'step': 10, 'train/loss': 0.5}]
    """

    def __init__(self, path: pathlib.Path):
        self._path = path

    def resume(self, step: int) -> None:
        """Drops what was written after a step."""
        kept = [row for row in read_json_lines(self._path) if row["step"] <= step]
        write_atomically(self._path, "".join(json.dumps(row) + "\n" for row in kept))

    def write(self, step: int, metrics: Mapping[str, Any], /) -> None:
        """Appends a line."""
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")


class TensorBoard:
    """Writes TensorBoard's event files.

    >>> import tempfile
    >>> board = TensorBoard(pathlib.Path(tempfile.mkdtemp()))
    >>> board.resume(0)
    >>> board.write(10, {"train/loss": 0.5})
    >>> board.close()
    """

    def __init__(self, folder: pathlib.Path):
        self._folder = folder

    def resume(self, step: int) -> None:
        """Hides what was written after a step."""
        from tensorboardX import SummaryWriter

        self._events = SummaryWriter(str(self._folder), purge_step=step + 1)

    def write(self, step: int, metrics: Mapping[str, Any], /) -> None:
        """Writes scalars; each entry of a list is a separate one."""
        for name, value in metrics.items():
            if not isinstance(value, list):
                self._events.add_scalar(name, value, step)
                continue
            for i, entry in enumerate(value):
                self._events.add_scalar(f"{name}/{i}", entry, step)

    def close(self) -> None:
        """Writes what is left."""
        self._events.close()


class ProgressBar:
    """Shows the step, the training loss and the last validation.

    Args:
      steps: total number of outer steps.
      shown: names of the metrics to show.

    >>> bar = ProgressBar(steps=10)
    """

    def __init__(self, steps: int, shown: tuple[str, ...] = ("train/loss",)):
        self._steps, self._names = steps, shown

    def resume(self, step: int) -> None:
        """Starts the bar at a step."""
        from tqdm.auto import tqdm

        self._bar = tqdm(total=self._steps, initial=step, unit="step", dynamic_ncols=True)
        self._shown: dict[str, str] = {}

    def write(self, step: int, metrics: Mapping[str, Any], /) -> None:
        """Moves the bar."""
        for name in self._names:
            if name in metrics:
                self._shown[name] = f"{metrics[name]:.4f}"
        self._bar.set_postfix(self._shown, refresh=False)
        self._bar.update(step - self._bar.n)

    def close(self) -> None:
        """Leaves the bar as it is."""
        self._bar.close()


class CollapseWarning:
    """Warns on stderr, once, that the outputs of an objective over views have collapsed.

    They have if a logged ``train/spread``, or ``train/NAME_spread`` of a term of a sum, is below
    :data:`COLLAPSED`; see :func:`jaxmeta.diagnostics.spread`. The loss alone need not show it.

    >>> import contextlib, io
    >>> warning, told = CollapseWarning(), io.StringIO()
    >>> with contextlib.redirect_stderr(told):
    ...     for step in (10, 20):
    ...         warning.write(step, {"train/loss": -1.0, "train/spread": 0.02})
    >>> told.getvalue().startswith("The outputs have collapsed by step 10: their spread is 0.02")
    True
    >>> told.getvalue().count("collapsed")
    1
    """

    def __init__(self) -> None:
        self._told = False

    def write(self, step: int, metrics: Mapping[str, Any], /) -> None:
        """Checks the spread."""
        spreads = [
            value
            for name, value in metrics.items()
            if name == "train/spread" or (name.startswith("train/") and name.endswith("_spread"))
        ]
        if self._told or min(spreads, default=1.0) >= COLLAPSED:
            return
        self._told = True
        from tqdm.auto import tqdm

        # Unlike print, this does not break a progress bar.
        tqdm.write(
            f"The outputs have collapsed by step {step}: their spread is {min(spreads):.2g} where "
            "1 is isotropic, so that they hardly tell examples apart; try a smaller learning rate, "
            "a larger batch, a projector that normalizes its hidden layers or, with a teacher, a "
            "momentum nearer to 1.",
            file=sys.stderr,
        )


def read_json_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of a file that :class:`JsonLines` wrote; a last line cut short is left out."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
