"""Training and tabulating methods of domain adaptation, for ``experiments.adapt``."""

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from jaxmeta.runs import workdir
from jaxmeta.runs.config import complete
from jaxmeta.runs.spec import suggest
from jaxmeta.runs.writers import read_json_lines

from .configs import adaptation
from .seeds import markdown, mean_and_interval, percent, result_of

VALIDATORS = {"accuracy": 1, "unlabeled_mutual_information": 1, "unlabeled_prediction_entropy": -1}
"""Metrics without labels of the target, and whether they are better when higher."""
END = 0.1  # the last share of a run, over which its spread is reported


class Cell(NamedTuple):
    """One run of the table.

    Attributes:
      pair: the domains, as in ``"books:dvd"``; empty for the config's own.
      method: the method.
      seed: the seed.
      config: the complete config.
    """

    pair: str
    method: str
    seed: int
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What the run's folder is called."""
        return "_".join(part for part in (self.pair.replace(":", "_to_"), self.method) if part) + (
            f"_{self.seed}"
        )


class Outcome(NamedTuple):
    """What one run reached.

    Attributes:
      pair: the domains.
      method: the method.
      seed: the seed.
      steps: the outer steps of each validation.
      scores: by name, the metrics of each validation.
    """

    pair: str
    method: str
    seed: int
    steps: Sequence[int]
    scores: Mapping[str, Sequence[float]]


def load_shift(name: str) -> adaptation.Shift:
    """The pair of domains of a module, by the module's name."""
    dotted = name if "." in name else f"{__package__}.configs.{name}"
    try:
        shift: adaptation.Shift = importlib.import_module(dotted).SHIFT
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"--data is '{name}', but no SHIFT can be had from {dotted} ({error}): give mnist_m, "
            "mnist_usps, usps_mnist, reviews, or the dotted name of a module of your own."
        ) from error
    return shift


def pairs_of(given: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of domains; raises ``ValueError`` if one is not of the form ``source:target``."""
    pairs = []
    for pair in given:
        source, colon, target = pair.partition(":")
        if not (source and colon and target) or source == target:
            raise ValueError(f"--pairs has '{pair}': give pairs of two domains, as in books:dvd.")
        pairs.append((source, target))
    return pairs


def cells_of(
    shift: adaptation.Shift,
    methods: Sequence[str],
    seeds: int,
    pairs: Sequence[tuple[str, str]],
    steps: int | None,
) -> list[Cell]:
    """The runs of a table, all methods of one seed and pair together."""
    chosen = [*shift.methods] if "all" in methods else list(dict.fromkeys(methods))
    for method in chosen:
        if method not in shift.methods:
            raise ValueError(f"There is no method '{method}': {suggest(method, shift.methods)}.")
    if not chosen:
        raise ValueError("--methods is empty: give all, or some.")
    cells = []
    if pairs and not isinstance(shift.data.get("source"), str):
        raise ValueError(
            "--pairs was given, but the domains of these data are not names: give data such as "
            "reviews, or leave --pairs out."
        )
    domains: Sequence[tuple[str, str] | None] = pairs or [None]
    for pair in domains:
        for seed in range(seeds):
            for method in chosen:
                config = adaptation.configure(shift, method, steps)
                config.seed = seed
                if pair is not None:
                    config.data.source, config.data.target = pair
                name = "" if pair is None else ":".join(pair)
                cells.append(Cell(name, method, seed, complete(config)))
    return cells


def outcome_of(cell: Cell, folder: Path, data_dir: str | None) -> Outcome:
    """Trains a run if it is not yet trained, and reads what it reached at each validation.

    Raises:
      Diverged: its training diverged.
    """
    own = folder / cell.name
    result_of(cell.config, own, data_dir)
    rows = [
        row for row in read_json_lines(own / "metrics.jsonl") if "validation/target_accuracy" in row
    ]
    names = [name for name in rows[0] if name.startswith("validation/") and "_ci95" not in name]
    scores = {name.removeprefix("validation/"): [row[name] for row in rows] for name in names}
    steps = [row["step"] for row in rows]
    return Outcome(cell.pair, cell.method, cell.seed, steps, scores)


def summary(outcome: Outcome) -> dict[str, float]:
    """The figures of one run: at the last step, as chosen on the source, and the best there was."""
    target = outcome.scores["target_accuracy"]
    late = [
        value
        for step, value in zip(outcome.steps, target, strict=True)
        if step > (1 - END) * outcome.steps[-1]
    ]
    return {
        "last": target[-1],
        "balanced": outcome.scores["target_balanced_accuracy"][-1],
        "source": outcome.scores["accuracy"][-1],
        "source_validated": target[int(np.argmax(outcome.scores["accuracy"]))],
        "oracle": max(target),
        "spread": float(np.ptp(late)),
    }


def tabulated(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A row for each pair and method, with gains over the baseline of the same pair and seed."""
    rows: list[dict[str, Any]] = []
    last = {(each.pair, each.method, each.seed): summary(each)["last"] for each in outcomes}
    for pair, method in dict.fromkeys((each.pair, each.method) for each in outcomes):
        own = [each for each in outcomes if (each.pair, each.method) == (pair, method)]
        figures = [summary(each) for each in own]
        baseline = adaptation.BASELINES.get(method, "source_only")
        gains = [
            figure["last"] - last[pair, baseline, each.seed]
            for each, figure in zip(own, figures, strict=True)
            if method != baseline and (pair, baseline, each.seed) in last
        ]
        means = {name: mean_and_interval([f[name] for f in figures]) for name in figures[0]}
        about = {"pair": pair, "method": method, "seeds": [each.seed for each in own]}
        rows.append({**about, **means, "gain": mean_and_interval(gains) if gains else None})
    return rows


def pooled(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The mean gain of each method over all pairs, whose means over seeds count once each."""
    gains: dict[str, list[float]] = {}
    for row in tabulated(outcomes):
        if row["gain"] is not None:
            gains.setdefault(row["method"], []).append(row["gain"]["mean"])
    return [
        {"method": method, "pairs": len(values), "gain": mean_and_interval(values)}
        for method, values in gains.items()
    ]


def validator_ranks(outcomes: Sequence[Outcome]) -> dict[str, float | None]:
    """Spearman's correlation of each validator with the accuracy on the target.

    It is over all validations of all methods of a pair and seed, and averaged over these; ``None``
    if there is no difference to be ranked.
    """
    ranks: dict[str, list[float]] = {name: [] for name in VALIDATORS}
    for pair, seed in dict.fromkeys((each.pair, each.seed) for each in outcomes):
        own = [each for each in outcomes if (each.pair, each.seed) == (pair, seed)]
        target = [value for each in own for value in each.scores["target_accuracy"]]
        for name, sign in VALIDATORS.items():
            seen = [sign * value for each in own for value in each.scores[name]]
            if min(len(set(seen)), len(set(target))) > 1:
                ranks[name].append(float(stats.spearmanr(seen, target).statistic))
    return {name: float(np.mean(each)) if each else None for name, each in ranks.items()}


def write(folder: Path, outcomes: Sequence[Outcome]) -> None:
    """Writes ``adaptation.json`` and ``adaptation.md``."""
    rows, over_pairs, ranks = tabulated(outcomes), pooled(outcomes), validator_ranks(outcomes)
    found = {
        "rows": rows,
        "pooled": over_pairs,
        "validator_rank_correlation": ranks,
        "outcomes": [each._asdict() for each in outcomes],
    }
    folder.mkdir(parents=True, exist_ok=True)
    workdir.write_atomically(folder / "adaptation.json", json.dumps(found, indent=2) + "\n")
    workdir.write_atomically(folder / "adaptation.md", table(rows, over_pairs, ranks))


def table(
    rows: Sequence[Mapping[str, Any]],
    over_pairs: Sequence[Mapping[str, Any]],
    ranks: Mapping[str, float | None],
) -> str:
    """The tables in Markdown, accuracies in percent."""
    with_pairs = any(row["pair"] for row in rows)
    head = ["domains"] if with_pairs else []
    head += ["method", "target, %", "minus source only", "balanced, %", "source, %"]
    head += ["[source-validated]", "[best on the target]", "range over the last tenth"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        cells = [row["pair"].replace(":", " to ")] if with_pairs else []
        cells += [f"`{row['method']}`", percent(row["last"]), percent(row["gain"], "+")]
        cells += [percent(row["balanced"]), percent(row["source"])]
        cells += [f"[{percent(row[name])}]" for name in ("source_validated", "oracle")]
        lines.append([*cells, percent(row["spread"])])
    text = markdown(lines)
    if len({row["pair"] for row in rows}) > 1:
        means = [["method", "pairs", "mean gain over pairs"], ["---"] * 3]
        for row in over_pairs:
            means.append([f"`{row['method']}`", str(row["pairs"]), percent(row["gain"], "+")])
        text += "\n" + markdown(means)
    lines = [["validator", "rank correlation with the target's accuracy"], ["---"] * 2]
    for name, value in ranks.items():
        lines.append([f"`{name}`", "" if value is None else f"{value:.2f}"])
    return text + "\n" + markdown(lines)
