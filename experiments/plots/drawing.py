"""How images, frames and lines are drawn, and pictures written."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from jaxmeta.distributed.processes import is_primary

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def save(figure: matplotlib.figure.Figure, path: Path) -> None:
    """Writes a picture, in the first process only, and closes it."""
    if is_primary():
        figure.savefig(path, dpi=120)
    plt.close(figure)


def line_style(i: int) -> dict[str, Any]:
    """The style of one of many lines: twenty colors and seven markers, so that no two are alike."""
    colors = plt.get_cmap("tab20")
    return {
        "marker": "os^DvPX"[i % 7],
        "markersize": 5,
        "linewidth": 0.8,
        "color": colors(i % colors.N),
    }


def show(axis: matplotlib.axes.Axes, image: np.ndarray) -> None:
    """Shows an image in a frame; ink is dark."""
    image = np.clip(image, 0, 1)
    axis.imshow(1 - image if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[], frame_on=True)


def are_images(x: Any) -> bool:
    shape: tuple[int, ...] = getattr(x, "shape", ())
    return len(shape) == 4 and shape[3] in (1, 3)


def frame(axis: matplotlib.axes.Axes, color: str) -> None:
    for spine in axis.spines.values():
        spine.set(edgecolor=color, linewidth=2)
