"""Which layers transfer: the accuracy by how many are copied."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .drawing import plt, save


def layers(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draws the accuracy against the number of copied parts, frozen or trained.

    Args:
      folder: where to write ``layers.png``.
      rows: as of ``experiments.copied.evaluated``.
    """
    shots = rows[0]["protocol"]["shots"]
    figure, panels = plt.subplots(
        1, len(shots), figsize=(1 + 3.4 * len(shots), 3.6), squeeze=False, layout="constrained"
    )
    for axes, count in zip(panels[0], shots, strict=True):
        for frozen, label in ((True, "copied parts frozen"), (False, "all parts trained")):
            # With no part copied, both are the same.
            own = [row for row in rows if row["frozen"] == frozen or row["copied"] == 0]
            own = sorted(own, key=lambda row: row["copied"])
            means, halves = (
                np.asarray([100 * row["figures"][str(count)][name] for row in own])
                for name in ("mean", "ci95")
            )
            copied = [row["copied"] for row in own]
            axes.errorbar(copied, means, halves, fmt=".-", capsize=3, label=label)
        axes.set_xticks(range(len(rows[0]["parts"]) + 1))
        axes.set_title(f"{count}-shot", fontsize=10)
        axes.set_xlabel("parts copied from the run")
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("accuracy on new classes, %")
    panels[0][-1].legend(fontsize=8)
    save(figure, folder / "layers.png")
