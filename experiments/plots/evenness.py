"""What methods gain on tasks of each size."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .drawing import plt, save


def evenness(folder: Path, cells: Mapping[tuple[str, float], Any]) -> None:
    """Draws the gain over each task alone against its size, a line for each method.

    Args:
      folder: where to write ``evenness.png``.
      cells: as of ``experiments.rotating.measured``.
    """
    methods = [method for method in dict.fromkeys(name for name, _ in cells) if method != "alone"]
    exponents = sorted({exponent for method, exponent in cells if method in methods})
    figure, panels = plt.subplots(
        1,
        len(exponents),
        figsize=(1.5 + 3.6 * len(exponents), 4),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, exponent in zip(panels[0], exponents, strict=True):
        for color, method in enumerate(methods):
            cell = cells[method, exponent]
            order = np.argsort(cell.sizes, axis=1, kind="stable")
            sizes = np.take_along_axis(cell.sizes, order, axis=1)[0]
            gains = np.take_along_axis(cell.gains, order, axis=1).mean(axis=0)
            axes.plot(sizes, gains, ".-", color=f"C{color}", label=method)
        axes.axhline(0, color="0.5", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_title(f"tasks drawn by size to the power {exponent:g}", fontsize=10)
        axes.set_xlabel("training examples of the task")
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("gain over the task alone, points")
    panels[0][-1].legend(fontsize=8)
    save(figure, folder / "evenness.png")
