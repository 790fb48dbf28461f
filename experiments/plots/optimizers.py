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


def movements(folder: Path, found: Sequence[Any]) -> None:
    """Draws the update of one coordinate against its gradient, a panel for each optimizer.

    Args:
      folder: where to write ``optimizers_update.png``.
      found: as of ``experiments.optimizing.movement``.
    """
    figure, panels = plt.subplots(
        1, len(found), figsize=(1.5 + 3 * len(found), 3.4), squeeze=False, layout="constrained"
    )
    for axes, each in zip(panels[0], found, strict=True):
        numbers = np.arange(1, len(each.update) + 1)
        dots = axes.scatter(each.gradient, each.update, 14, c=numbers, cmap="viridis")
        axes.axhline(0, color="0.7", linewidth=0.6)
        axes.axvline(0, color="0.7", linewidth=0.6)
        # The first steps would hide the others.
        for axis, values in (("x", each.gradient), ("y", each.update)):
            least = max(float(np.median(np.abs(values))), 1e-12)
            powers = np.arange(
                np.floor(np.log10(2 * least)), np.log10(np.abs(values).max() + least)
            )
            getattr(axes, f"set_{axis}scale")("symlog", linthresh=least)
            axes.set(**{f"{axis}ticks": [*-(10.0 ** powers[::-1]), 0, *10.0**powers]})
        axes.set_title(each.name, fontsize=10)
        axes.set_xlabel("gradient")
    panels[0][0].set_ylabel("update of one coordinate")
    figure.colorbar(dots, ax=panels[0], label="step")
    save(figure, folder / "optimizers_update.png")
