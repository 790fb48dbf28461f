"""What imagined examples gain."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .drawing import line_style, plt, save


def ladder(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draws the gain of each rung over the plain learner against shots, a panel for each learner.

    Args:
      folder: where to write ``ladder.png``.
      rows: as of ``experiments.hallucinating.tabulated``.
    """
    learners = list(dict.fromkeys(row["learner"] for row in rows))
    rungs = list(dict.fromkeys(row["rung"] for row in rows if row["rung"] != "plain"))
    if not rungs:
        return
    figure, panels = plt.subplots(
        1,
        len(learners),
        figsize=(2.5 + 3.6 * len(learners), 4.2),
        squeeze=False,
        layout="constrained",
    )
    for axes, learner in zip(panels[0], learners, strict=True):
        shots = sorted({row["shots"] for row in rows if row["learner"] == learner})
        for number, rung in enumerate(rungs):
            own = [row for row in rows if (row["learner"], row["rung"]) == (learner, rung)]
            if own:
                # Side by side, so that intervals do not hide each other.
                at = [shots.index(row["shots"]) + 0.05 * (number - len(rungs) / 2) for row in own]
                gains = 100 * np.asarray([row["gain"]["mean"] for row in own])
                half = 100 * np.asarray([row["gain"]["ci95"] or 0.0 for row in own])
                style = line_style(2 * number)
                axes.errorbar(at, gains, half, label=rung, capsize=2, **style)
        axes.axhline(0, color="0.5", linewidth=0.8)
        axes.set_xticks(range(len(shots)), [str(each) for each in shots])
        axes.set_yscale("symlog", linthresh=2)
        axes.set_title(learner, fontsize=10)
        axes.set_xlabel("examples of each class")
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("gain over plain, points")
    named = {
        label: handle
        for axes in panels[0]
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(named.values(), named, fontsize=8, loc="outside right center")
    save(figure, folder / "ladder.png")
