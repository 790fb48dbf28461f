"""How the losses of optimizers fall."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .drawing import plt, save


def optimizers(folder: Path, curves: Sequence[Any]) -> None:
    """Draws the mean loss over tasks against steps, on a logarithmic axis, with its interval.

    Args:
      folder: where to write ``optimizers.png``.
      curves: as of ``experiments.optimizing``; those of one number of steps share a panel.
    """
    horizons = sorted({curve.steps for curve in curves})
    names = list(dict.fromkeys(curve.name for curve in curves))
    figure, panels = plt.subplots(
        1, len(horizons), figsize=(1.5 + 4 * len(horizons), 4), squeeze=False, layout="constrained"
    )
    for axes, steps in zip(panels[0], horizons, strict=True):
        for curve in curves:
            if curve.steps != steps:
                continue
            color = f"C{names.index(curve.name)}"
            losses = np.where(np.isfinite(curve.losses), curve.losses, np.nan)
            mean = np.nanmean(losses, axis=0)
            spread = 1.96 * np.nanstd(losses, axis=0) / np.sqrt(len(losses))
            style = "-" if curve.rate is None else "--"
            axes.plot(mean, style, color=color, label=curve.name)
            axes.fill_between(
                range(len(mean)),
                np.maximum(mean - spread, mean / 10),
                mean + spread,
                color=color,
                alpha=0.15,
                linewidth=0,
            )
        axes.set_yscale("log")
        # Those that diverge leave the picture, and do not flatten the others.
        first = max(curve.losses[:, 0].mean() for curve in curves if curve.steps == steps)
        axes.set_ylim(top=3 * first)
        axes.set_xlabel("step")
        axes.set_title(f"tuned for {steps:,} steps", fontsize=10)
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("loss, mean over tasks")
    panels[0][-1].legend(fontsize=8)
    save(figure, folder / "optimizers.png")
