"""How methods of multi-task learning compare, over all tasks and on each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .drawing import plt, save


def multitask(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draws the mean accuracy of each method with its interval, and single tasks as small dots.

    Args:
      folder: where to write ``multitask.png``.
      rows: as of ``experiments.multitasking.tabulated``.
    """
    figure, axes = plt.subplots(figsize=(7, 1.2 + 0.35 * len(rows)), layout="constrained")
    places = np.arange(len(rows))[::-1]
    for place, row in zip(places, rows, strict=True):
        single = 100 * np.asarray(row["tasks"])
        axes.plot(single, np.full(single.size, place), ".", color="0.75", markersize=5)
        mean, half = 100 * row["accuracy"]["mean"], 100 * (row["accuracy"]["ci95"] or 0)
        axes.errorbar(mean, place, xerr=half, fmt="o", color="C0", capsize=3, markersize=5)
    axes.set_yticks(places, [row["method"] for row in rows])
    axes.set_xlabel("test accuracy, %: mean over tasks, with its interval over seeds; tasks (gray)")
    axes.grid(axis="x", alpha=0.3)
    save(figure, folder / "multitask.png")
