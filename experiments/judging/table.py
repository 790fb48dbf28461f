"""The table of results."""

from collections.abc import Mapping, Sequence
from typing import Any


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """The table in Markdown, accuracies in percent."""
    reference, columns = results[0], list(results[0]["values"])
    head = ["run", "step", "statistics", "ridge, %", "logistic, %"]
    head += [f"{reference['probes']['nearest_neighbors']['neighbors']} neighbors, %"]
    head += ["RankMe", "alpha-ReQ", "spread"]
    for name, shots in columns:
        head += [f"`{name}`, {shots}-shot, %", f"minus `{reference['workdir']}`"]
    lines = [head, ["---"] * len(head)]
    for result in results:
        seen, alpha = result["diagnostics"], result["diagnostics"]["alpha_req"]
        cells = [f"`{result['workdir']}`", f"{result['step']:,}"]
        cells.append(_statistics(result["statistics"]))
        cells += [_percent(probe["accuracy"]) for probe in result["probes"].values()]
        cells += [f"{seen['rankme']:.1f}", "" if alpha is None else f"{alpha:.2f}"]
        cells.append(f"{seen['spread']:.2f}")
        for name, shots in columns:
            figure = result["few_shot"]["accuracy"][name][str(shots)]
            apart = _percent(figure["minus_reference"], "+") if result is not reference else ""
            cells += [_percent(figure), apart]
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _percent(figure: Mapping[str, float], sign: str = "") -> str:
    return f"{100 * figure['mean']:{sign}.1f} ± {100 * figure['ci95']:.1f}"


def _statistics(facts: Mapping[str, Any]) -> str:
    """Which statistics were used, and why not those asked for, or the results that chose them."""
    if "because" in facts:
        return f"{facts['used']} ({facts['because']})"
    if "validation" not in facts:
        return facts["used"] or "none"
    means = {name: facts["validation"][name]["mean"] for name in ("averaged", "clean")}
    seen = ", ".join(f"{name} {100 * mean:.1f}" for name, mean in means.items())
    return f"{facts['used']} (validation: {seen})"
