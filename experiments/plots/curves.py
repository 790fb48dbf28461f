"""How runs learned, and how methods compare."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxmeta.runs import workdir
from jaxmeta.runs.config import evaluation_of
from jaxmeta.runs.writers import read_json_lines

from .drawing import line_style, plt, save

DIAGNOSTICS = {
    "spread": "spread, 0 if collapsed",
    "positive_cosine": "cosine of two views of an image",
    "instance_accuracy": "views matched to their images",
    "critic_accuracy": "domains told apart by the critic",
}
"""Metrics of objectives over views and over domains, and their labels."""


def curve(folder: Path) -> None:
    """Draws the training loss and the validation metric against outer steps, ``curve.png``.

    Objectives over views have a third panel, with metrics that reveal a collapse; those with a
    critic, one with its accuracy. Further evaluations that are watched are drawn beside the first.
    """
    rows = read_json_lines(folder / "metrics.jsonl")
    config = workdir.read_config(folder)
    metric = next(iter(evaluation_of(config)["metrics"]))
    training = [row for row in rows if "train/loss" in row]
    validation = [row for row in rows if f"validation/{metric}" in row]
    shown = [name for name in DIAGNOSTICS if any(f"train/{name}" in row for row in training)]
    panels = 3 if shown else 2
    figure, axes = plt.subplots(1, panels, figsize=(5 * panels, 4), layout="constrained")
    left, right = axes[:2]
    steps, losses = ([row[name] for row in training] for name in ("step", "train/loss"))
    left.plot(steps, losses)
    scale = "log" if min(losses, default=0) > 0 else "linear"
    left.set(xlabel="outer step", ylabel="loss (training tasks)", yscale=scale)
    seen = [(row["step"], row[f"train/{metric}"]) for row in training if f"train/{metric}" in row]
    if seen:
        right.plot(*zip(*seen, strict=True), alpha=0.5, label="training tasks")
    _, *others = config["evaluations"]
    watched = {f"{name}_{metric}": f"{name}, 95% interval" for name in others}
    for name, label in {metric: "validation, 95% interval", **watched}.items():
        if all(f"validation/{name}" in row for row in validation):
            right.errorbar(
                [row["step"] for row in validation],
                [row[f"validation/{name}"] for row in validation],
                [row[f"validation/{name}_ci95"] for row in validation],
                marker="o",
                label=label,
            )
    right.set(xlabel="outer step", ylabel=metric.replace("_", " "))
    right.legend()
    for name in shown:
        values = [row.get(f"train/{name}", np.nan) for row in training]
        axes[2].plot(steps, values, label=DIAGNOSTICS[name])
    if shown:
        bottom = min(0, axes[2].get_ylim()[0])
        axes[2].set(xlabel="outer step", ylabel="diagnostics (training tasks)")
        axes[2].set_ylim(bottom, 1.05)
        axes[2].legend()
    save(figure, folder / "curve.png")


def comparison(folder: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Draws the accuracy of methods against the number of shots, ``comparison.png``."""
    figure, axis = plt.subplots(figsize=(10, 6), layout="constrained")
    shots = results[0]["protocol"]["shots"]
    last = str(shots[-1])
    ordered = sorted(results, key=lambda result: -result["figures"][last]["mean"])
    for i, result in enumerate(ordered):
        figures = [result["figures"][str(k)] for k in shots]
        # Side by side, so that the intervals do not hide one another.
        places = np.arange(len(shots)) + (i / max(len(ordered) - 1, 1) - 0.5) * 0.5
        axis.errorbar(
            places,
            [100 * each["mean"] for each in figures],
            [100 * each["ci95"] for each in figures],
            **line_style(i),
            label=result["name"],
        )
    axis.set(xticks=range(len(shots)), xticklabels=shots)
    axis.set(xlabel="shots", ylabel="accuracy on test tasks, %, with 95% intervals")
    axis.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside right upper", title=f"best first, at {last} shots")
    save(figure, folder / "comparison.png")


def learning(folder: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Draws the validation accuracy of trained runs against outer steps, ``learning.png``."""
    figure, axis = plt.subplots(figsize=(10, 6), layout="constrained")
    curves = {}
    for run in dict.fromkeys(result["run"] for result in results):
        rows = read_json_lines(folder / run / "metrics.jsonl")
        seen = [
            (row["step"], 100 * row["validation/accuracy"], 100 * row["validation/accuracy_ci95"])
            for row in rows
            if "validation/accuracy" in row
        ]
        if seen:
            curves[run] = seen
    ordered = sorted(curves, key=lambda run: -curves[run][-1][1])
    for i, run in enumerate(ordered):
        steps, means, halves = zip(*curves[run], strict=True)
        axis.errorbar(steps, means, halves, **line_style(i), label=run)
    axis.set(xlabel="outer step", ylabel="accuracy on validation tasks, %, with 95% intervals")
    axis.grid(axis="y", alpha=0.3)
    if ordered:
        figure.legend(loc="outside right upper", title="best first, at the end")
    save(figure, folder / "learning.png")
