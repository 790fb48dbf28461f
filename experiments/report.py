"""What ``experiments.compare`` reports: the table, its figures, and the plots."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxmeta.evaluate import summarize
from jaxmeta.runs import workdir

from . import plots


def differences(results: Sequence[Mapping[str, Any]], reference: str) -> dict[str, dict[str, Any]]:
    """Mean paired differences from the reference, with intervals, by method and shots."""
    base = next((result["values"] for result in results if result["name"] == reference), None)
    if base is None:
        return {}
    return {
        result["name"]: {
            shots: summarize(np.asarray(values) - np.asarray(base[shots]))._asdict()
            for shots, values in result["values"].items()
        }
        for result in results
        if result["name"] != reference
    }


def table(results: Sequence[Mapping[str, Any]], apart: Mapping[str, Any], reference: str) -> str:
    """The table in Markdown, in percent."""
    shots = [str(value) for value in results[0]["protocol"]["shots"]]
    head = ["method"]
    for k in shots:
        head += [f"{k}-shot, %", f"minus `{reference}`"]
    head += ["normalization", "outer steps", "training, s", "training, MiB"]
    head += [f"a task, ms ({shots[0]}-shot)", "parameters"]
    rows = []
    for result in results:
        cells = [f"`{result['name']}`"]
        for k in shots:
            figure = result["figures"][k]
            cells.append(f"{100 * figure['mean']:.1f} ± {100 * figure['ci95']:.1f}")
            paired = apart.get(result["name"], {}).get(k)
            cells.append(
                f"{100 * paired['mean']:+.1f} ± {100 * paired['ci95']:.1f}" if paired else ""
            )
        cells += [
            result["normalization"],
            f"{result['steps']:,}",
            f"{result['train_seconds']:,.0f}",
            f"{result['training_mib']:,.0f}",
            f"{result['figures'][shots[0]]['milliseconds_a_task']:.1f}",
            f"{result['parameters']:,}",
        ]
        rows.append(cells)
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def report(
    folder: Path,
    results: Sequence[Mapping[str, Any]],
    diverged: Mapping[str, str],
    reference: str,
) -> None:
    """Writes the table, its figures, and the plots."""
    apart = differences(results, reference)
    without = [
        {field: value for field, value in result.items() if field != "values"}
        | {"minus_reference": apart.get(result["name"])}
        for result in results
    ]
    document = {"reference": reference, "methods": without, "diverged": diverged}
    workdir.write_atomically(folder / "comparison.json", json.dumps(document, indent=2) + "\n")
    left_out = "".join(f"\n`{name}` diverged: {text}\n" for name, text in diverged.items())
    text = table(results, apart, reference) + left_out
    workdir.write_atomically(folder / "comparison.md", text)
    plots.comparison(folder, results)
    plots.learning(folder, results)
