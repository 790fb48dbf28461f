"""What imagined examples gain."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..imagined import Imagined
from .drawing import line_style, plt, save


def ladder(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draws the gain of each rung over the plain learner against shots, a panel for each learner.

    Args:
      folder: where to write ``ladder.png``.
      rows: as of ``experiments.ladder_table.tabulated``.
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


def classes(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draws the gain of generators against the number of classes that they were trained on.

    Args:
      folder: where to write ``classes.png``.
      rows: those of rungs such as ``"generator:16"``; without any, nothing is drawn.
    """
    if not rows:
        return
    figure, axes = plt.subplots(figsize=(5.5, 4), layout="constrained")
    for number, line in enumerate(dict.fromkeys((row["learner"], row["shots"]) for row in rows)):
        own = [row for row in rows if (row["learner"], row["shots"]) == line]
        counts = [int(row["rung"].partition(":")[2]) for row in own]
        gains = 100 * np.asarray([row["gain"]["mean"] for row in own])
        half = 100 * np.asarray([row["gain"]["ci95"] for row in own])
        name = f"{line[0]}, {line[1]}-shot"
        axes.errorbar(counts, gains, half, label=name, capsize=2, **line_style(2 * number))
    axes.axhline(0, color="0.5", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(each) for each in counts])
    axes.set_xlabel("classes that the generator was trained on")
    axes.set_ylabel("gain over plain, points")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    save(figure, folder / "classes.png")


def imagined(folder: Path, found: Imagined) -> None:
    """Draws seeds, what is imagined of them, and real examples, ``imagined.png``.

    The plane is that of the first two principal axes of the real examples, which all share.

    Args:
      folder: where to write.
      found: of a few classes.
    """
    size = found.real.shape[-1]
    flat = found.real.reshape(-1, size)
    center = flat.mean(axis=0)
    _, _, directions = np.linalg.svd(flat - center, full_matrices=False)

    def place(rows: np.ndarray) -> np.ndarray:
        return (rows.reshape(-1, size) - center) @ directions[:2].T

    figure, axes = plt.subplots(figsize=(7, 6), layout="constrained")
    for number, (real, seeds, drawn) in enumerate(zip(*found, strict=True)):
        color = f"C{number}"
        dots, crosses, star = place(real[:200]), place(drawn[0]), place(seeds[:1])
        axes.scatter(dots[:, 0], dots[:, 1], 6, color=color, alpha=0.25, linewidths=0)
        axes.scatter(crosses[:, 0], crosses[:, 1], 14, color=color, marker="x", linewidths=0.8)
        axes.scatter(star[:, 0], star[:, 1], 130, color=color, marker="*", edgecolors="black")
    axes.scatter([], [], 40, color="0.3", marker="o", label="real")
    axes.scatter([], [], 40, color="0.3", marker="x", label="imagined of the seed")
    axes.scatter([], [], 40, color="0.3", marker="*", label="seed")
    axes.set(xlabel="first principal axis of the real examples", ylabel="second")
    axes.legend(fontsize=8)
    save(figure, folder / "imagined.png")
