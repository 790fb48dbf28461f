"""What experiments over several seeds share: runs that are kept, and means with intervals."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from jaxmeta.distributed.processes import say
from jaxmeta.runs import EVERYTHING, prepare, train, workdir
from jaxmeta.runs.measure import measure


def result_of(config: Mapping[str, Any], folder: Path, data_dir: str | None) -> dict[str, Any]:
    """The result of a run, which is trained if no run of this config is finished.

    Args:
      config: the complete config.
      folder: the run's folder.
      data_dir: the folder of data sets.

    Raises:
      Diverged: its training diverged.
    """
    return results_of(config, folder, data_dir, ["test"])["test"]


def results_of(
    config: Mapping[str, Any], folder: Path, data_dir: str | None, splits: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Like :func:`result_of`, on several splits, by their names."""
    names = {"test": "result.json"}
    paths = {split: folder / names.get(split, f"result_{split}.json") for split in splits}
    there = all(path.exists() for path in paths.values())
    if not (there and workdir.read_config(folder) == json.loads(json.dumps(config))):
        prepared = prepare(config, folder, data_dir)
        for note in prepared.notes:
            say(note)
        train(prepared)
        for split, path in paths.items():
            result = measure(folder, prepared.sources, split, trust=EVERYTHING)
            workdir.write_atomically(path, json.dumps(result, indent=2) + "\n")
    return {split: json.loads(path.read_text()) for split, path in paths.items()}


def mean_and_interval(values: Sequence[float]) -> dict[str, float | None]:
    """The mean over runs and half of its 95% interval by Student's t; ``None`` for one run."""
    half = None
    if len(values) > 1:
        error = np.std(values, ddof=1) / np.sqrt(len(values))
        half = float(stats.t.ppf(0.975, len(values) - 1) * error)
    return {"mean": float(np.mean(values)), "ci95": half}


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def left_out_of(names: Sequence[str]) -> str:
    """What a table says below about runs that diverged; nothing if none did."""
    return f"\nDiverged, and left out: {', '.join(names)}.\n" if names else ""


def percent(figure: Mapping[str, float | None] | None, sign: str = "") -> str:
    """A mean and its interval in percent, as in ``12.3 ± 0.4``."""
    if figure is None or figure["mean"] is None:
        return ""
    text = f"{100 * figure['mean']:{sign}.1f}"
    return text if figure["ci95"] is None else f"{text} ± {100 * figure['ci95']:.1f}"
