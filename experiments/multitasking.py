"""Training and tabulating methods of multi-task learning, for ``experiments.multitask``."""

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxmeta.runs import workdir
from jaxmeta.runs.config import complete
from jaxmeta.runs.spec import suggest
from jaxmeta.runs.writers import read_json_lines

from .configs import multitask
from .seeds import left_out_of, markdown, mean_and_interval, percent, result_of

BASELINE = "hard_sharing"


class Outcome(NamedTuple):
    """What one run reached.

    Attributes:
      method: the method.
      rate: its learning rate.
      seed: its seed.
      accuracies: on the test examples of each task.
      validation: the best mean accuracy at a validation, which chose the checkpoint.
    """

    method: str
    rate: float
    seed: int
    accuracies: Sequence[float]
    validation: float


def load_tasks(name: str) -> multitask.Tasks:
    """The tasks of a module, by the module's name."""
    dotted = name if "." in name else f"{__package__}.configs.{name}"
    try:
        tasks: multitask.Tasks = importlib.import_module(dotted).TASKS
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"--data is '{name}', but no TASKS can be had from {dotted} ({error}): give "
            "cifar100_tasks, multi_mnist, review_tasks, clinc150_tasks, or the dotted name of a "
            "module of your own."
        ) from error
    return tasks


def methods_of(tasks: multitask.Tasks, given: Sequence[str]) -> list[str]:
    """The methods to compare; raises ``ValueError`` if there is none of a name."""
    chosen = [*tasks.methods] if "all" in given else list(dict.fromkeys(given))
    for method in chosen:
        if method not in tasks.methods:
            raise ValueError(f"There is no method '{method}': {suggest(method, tasks.methods)}.")
    if not chosen:
        raise ValueError("--methods is empty: give all, or some.")
    return chosen


def rates_of(given: Sequence[str]) -> list[float]:
    """Learning rates; raises ``ValueError`` if one is not a positive number."""
    rates = []
    for rate in given:
        try:
            rates.append(float(rate))
        except ValueError:
            rates.append(0.0)
        if not 0 < rates[-1] < float("inf"):
            raise ValueError(f"--rates has '{rate}': give positive numbers, as in 0.001.")
    return list(dict.fromkeys(rates))


def outcome_of(
    tasks: multitask.Tasks, method: str, seed: int, folder: Path, data_dir: str | None
) -> Outcome:
    """Trains a run if it is not yet trained, and reads what it reached.

    Raises:
      Diverged: its training diverged.
    """
    own = folder / f"{method}_{tasks.rate:g}_{seed}"
    config = multitask.configure(tasks, method)
    config.seed = seed
    result = result_of(complete(config), own, data_dir)
    accuracies = result["evaluations"]["trained"]["metrics"]["accuracy"]["tasks"]
    rows = read_json_lines(own / "metrics.jsonl")
    best = max(row["validation/accuracy"] for row in rows if "validation/accuracy" in row)
    return Outcome(method, tasks.rate, seed, accuracies, best)


def chosen_rates(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """The rate of each method whose first seed has the best validation."""
    first = min(each.seed for each in outcomes)
    best: dict[str, Outcome] = {}
    for each in outcomes:
        leads = each.method in best and best[each.method].validation >= each.validation
        if each.seed == first and not leads:
            best[each.method] = each
    return {method: each.rate for method, each in best.items()}


def tabulated(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A row for each method at its chosen rate, with gains over the baseline of the same seed."""
    rates = chosen_rates(outcomes)
    chosen = [each for each in outcomes if each.rate == rates.get(each.method)]
    means = {(each.method, each.seed): float(np.mean(each.accuracies)) for each in chosen}
    rows = []
    for method, rate in rates.items():
        own = [each for each in chosen if each.method == method]
        gains = [
            means[method, each.seed] - means[BASELINE, each.seed]
            for each in own
            if method != BASELINE and (BASELINE, each.seed) in means
        ]
        rows.append(
            {
                "method": method,
                "rate": rate,
                "seeds": [each.seed for each in own],
                "accuracy": mean_and_interval([means[method, each.seed] for each in own]),
                "gain": mean_and_interval(gains) if gains else None,
                "worst": mean_and_interval([min(each.accuracies) for each in own]),
                "tasks": np.mean([each.accuracies for each in own], axis=0).tolist(),
            }
        )
    return rows


def write(
    folder: Path, outcomes: Sequence[Outcome], left_out: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Writes ``multitask.json`` and ``multitask.md``, and returns the rows.

    Args:
      folder: where to write.
      outcomes: what the runs reached.
      left_out: the runs that diverged.
    """
    rows = tabulated(outcomes)
    found = {
        "rows": rows,
        "outcomes": [each._asdict() for each in outcomes],
        "diverged": [*left_out],
    }
    folder.mkdir(parents=True, exist_ok=True)
    workdir.write_atomically(folder / "multitask.json", json.dumps(found, indent=2) + "\n")
    workdir.write_atomically(folder / "multitask.md", table(rows) + left_out_of(left_out))
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The table in Markdown, accuracies in percent."""
    head = [
        "method",
        "seeds",
        "accuracy, %",
        f"minus `{BASELINE}`",
        "worst task, %",
        "learning rate",
    ]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        cells = [f"`{row['method']}`", str(len(row["seeds"]))]
        cells += [percent(row["accuracy"]), percent(row["gain"], "+")]
        lines.append([*cells, percent(row["worst"]), f"{row['rate']:g}"])
    return markdown(lines)
