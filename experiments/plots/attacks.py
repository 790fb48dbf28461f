"""How well attacks do: against examples, steps and rates."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxmeta.learners.attacks import RATES

from .drawing import line_style, plt, save


def attacks(
    folder: Path, rows: Sequence[Mapping[str, Any]], found: Sequence[Any], marks: Sequence[int]
) -> None:
    """Draws ``attack_examples.png``, ``attack_steps.png`` and ``attack_rates.png``.

    Args:
      folder: where to write.
      rows: as of ``experiments.attack_table.tabulated``.
      found: the best attacks, as of ``experiments.attacking``.
      marks: after how many steps attacks are judged.
    """
    splits = [
        split for split in ("harmful", "benign") if any(each.split == split for each in found)
    ]
    names = list(dict.fromkeys(row["model"] for row in rows))
    _examples(folder, rows, splits, names)
    _steps(folder, found, marks, names)
    _rates(folder, found, marks)


def _examples(
    folder: Path, rows: Sequence[Mapping[str, Any]], splits: Sequence[str], names: Sequence[str]
) -> None:
    """The accuracy of the best adversary against n, with intervals."""
    figure, panels = plt.subplots(
        1, len(splits), figsize=(3 + 3.6 * len(splits), 4), squeeze=False, layout="constrained"
    )
    for axes, split in zip(panels[0], splits, strict=True):
        for number, name in enumerate(names):
            own = [row for row in rows if row["model"] == name and row[split] is not None]
            own = sorted(own, key=lambda row: row["examples"])
            means = [100 * row[split]["mean"] for row in own]
            half = [100 * (row[split]["ci95"] or 0.0) for row in own]
            # Side by side, so that intervals do not hide each other.
            at = [row["examples"] * 1.03 ** (number - len(names) / 2) for row in own]
            axes.errorbar(at, means, half, label=name, capsize=2, **line_style(2 * number))
        counts = sorted({row["examples"] for row in rows})
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xticks(counts, [str(each) for each in counts])
        axes.set_xlabel("n, examples of the adversary")
        axes.set_title(f"{split} classes", fontsize=10)
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("accuracy of the best adversary, %")
    _legend(figure, panels[0][0])
    save(figure, folder / "attack_examples.png")


def _steps(folder: Path, found: Sequence[Any], marks: Sequence[int], names: Sequence[str]) -> None:
    """The accuracy of the best adversary that is stopped after so many steps."""
    harmful = [each for each in found if each.split == "harmful"]
    counts = sorted({each.examples for each in harmful})
    if not counts:
        return
    figure, panels = plt.subplots(
        1, len(counts), figsize=(2 + 3.2 * len(counts), 4), squeeze=False, layout="constrained"
    )
    for axes, count in zip(panels[0], counts, strict=True):
        for number, name in enumerate(names):
            own = [each.curve for each in harmful if (each.examples, each.name) == (count, name)]
            if own:
                means = 100 * np.mean(own, axis=0)
                axes.plot(marks, means, label=name, **line_style(2 * number))
        axes.set_xscale("log")
        axes.set_xlabel("steps of the adversary")
        axes.set_title(f"n = {count}", fontsize=10)
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("accuracy on harmful classes, %")
    _legend(figure, panels[0][0])
    save(figure, folder / "attack_steps.png")


def _legend(figure: plt.Figure, axes: plt.Axes) -> None:
    """Beside the panels, all of which have the same lines."""
    figure.legend(*axes.get_legend_handles_labels(), fontsize=8, loc="outside right center")


def _rates(folder: Path, found: Sequence[Any], marks: Sequence[int]) -> None:
    """The best of the grid for each rate and number of steps, a panel for each model, at most n."""
    harmful = [each for each in found if each.split == "harmful"]
    if not harmful:
        return
    most = max(each.examples for each in harmful)
    of_most = [each for each in harmful if each.examples == most]
    # The first seed of each.
    shown = [*{each.name: each for each in reversed(of_most)}.values()][::-1]
    columns = min(len(shown), 5)
    lines = -(-len(shown) // columns)
    figure, panels = plt.subplots(
        lines,
        columns,
        figsize=(1.5 + 2.1 * columns, 0.6 + 2.6 * lines),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    high = max(100 * np.max(each.by_rate) for each in shown)
    low = min(100 * np.min(each.by_rate) for each in shown)
    for axes, each in zip(panels.flat, shown, strict=False):
        image = axes.imshow(100 * np.asarray(each.by_rate), vmin=low, vmax=high, aspect="auto")
        axes.set_xticks(range(len(marks)), [f"{mark:,}" for mark in marks], rotation=90)
        axes.set_yticks(range(len(RATES)), [f"{rate:g}" for rate in RATES])
        axes.set_title(each.name, fontsize=9)
    for axes in panels.flat[len(shown) :]:
        axes.set_visible(False)
    figure.supxlabel("steps", fontsize=10)
    figure.supylabel("rate", fontsize=10)
    figure.colorbar(image, ax=panels, label=f"best of the grid, %, n = {most}")
    save(figure, folder / "attack_rates.png")
