"""What a run tells while it runs: a progress bar, ``metrics.jsonl`` and TensorBoard events."""

import json
import pathlib
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter
from tqdm import tqdm

from jaxmeta.evaluate import Evaluation
from jaxmeta.runs.workdir import write_atomically


class Journal:
    """Writes a run's metrics, from the step it resumes at.

    ``metrics.jsonl`` holds no clock, so that a run resumed after a crash writes the very lines that
    an undisturbed one writes: lines of steps that were lost are dropped when it resumes.
    """

    def __init__(self, folder: pathlib.Path, step: int, steps: int, score: float | None):
        path = folder / "metrics.jsonl"
        kept = [row for row in read_metrics(folder) if row["step"] <= step]
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept))
        self._file = path.open("a")
        self._events = SummaryWriter(str(folder / "events"), purge_step=step + 1)
        self._bar = tqdm(total=steps, initial=step, unit="step", dynamic_ncols=True)
        self._shown = {"validation": "-" if score is None else f"{score:.4f}"}

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.close()
        self._events.close()
        self._file.close()

    def training(self, step: int, metrics: dict[str, Any]) -> None:
        """Writes means over the steps just taken; figures of each inner step as lists."""
        means = {
            f"train/{name}": np.mean(np.asarray(values, np.float64), axis=0).tolist()
            for name, values in metrics.items()
        }
        self._write(step, means)
        self._shown["loss"] = f"{means['train/loss']:.4f}"
        self._bar.set_postfix(self._shown, refresh=False)
        self._bar.update(step - self._bar.n)

    def validation(self, step: int, score: Evaluation) -> None:
        """Writes a validation."""
        self._write(step, {"validation/mean": score.mean, "validation/ci95": score.ci95})
        self._shown["validation"] = f"{score.mean:.4f}"
        self._bar.set_postfix(self._shown)

    def _write(self, step: int, row: dict[str, Any]) -> None:
        self._file.write(json.dumps({"step": step, **row}) + "\n")
        self._file.flush()
        for name, value in row.items():
            figures = value if isinstance(value, list) else [value]
            for i, figure in enumerate(figures):
                suffix = f"/{i}" if isinstance(value, list) else ""
                self._events.add_scalar(name + suffix, figure, step)


def read_metrics(folder: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of a run's ``metrics.jsonl``; a last line cut short by a crash is left out."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
