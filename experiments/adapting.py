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
from .seeds import left_out_of, markdown, mean_and_interval, percent, result_of

VALIDATORS = {"accuracy": 1, "unlabeled_mutual_information": 1, "unlabeled_prediction_entropy": -1}
"""Metrics without labels of the target, and whether they are better when higher."""
CHOSEN_BY = {"accuracy": "source", "unlabeled_mutual_information": "mutual information"}
CHOSEN_BY |= {"unlabeled_prediction_entropy": "entropy"}
"""What the table calls them."""
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
        "oracle": max(target),
        "spread": float(np.ptp(late)),
        **{
            f"by_{name}": target[int(np.argmax(sign * np.asarray(outcome.scores[name])))]
            for name, sign in VALIDATORS.items()
        },
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
        gain = {"gain": mean_and_interval(gains) if gains else None, "over": baseline}
        rows.append({**about, **means, **gain})
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


def validator_ranks(outcomes: Sequence[Outcome]) -> dict[str, dict[str, dict[str, Any] | None]]:
    """Spearman's correlation of each validator with the accuracy on the target.

    ``"checkpoints"`` is over the validations of one run, as for stopping early, averaged over runs;
    ``"methods"`` over the last checkpoints of the methods of a pair and seed with the same network,
    averaged over pairs and seeds. ``None`` if there is no difference to be ranked.
    """
    within: dict[str, list[float]] = {name: [] for name in VALIDATORS}
    between: dict[str, list[float]] = {name: [] for name in VALIDATORS}
    alike: dict[tuple[str, int], list[Outcome]] = {}
    for each in outcomes:
        if each.method not in adaptation.NORMALIZED:
            alike.setdefault((each.pair, each.seed), []).append(each)
    for name, sign in VALIDATORS.items():
        for each in outcomes:
            target = each.scores["target_accuracy"]
            rank([sign * value for value in each.scores[name]], target, within[name])
        for own in alike.values():
            last = [each.scores["target_accuracy"][-1] for each in own]
            rank([sign * each.scores[name][-1] for each in own], last, between[name])
    return {
        name: {
            "checkpoints": mean_and_interval(within[name]) if within[name] else None,
            "methods": mean_and_interval(between[name]) if between[name] else None,
        }
        for name in VALIDATORS
    }


def rank(seen: Sequence[float], target: Sequence[float], found: list[float]) -> None:
    """Adds the rank correlation, if there are three values and differences, to those found."""
    if len(seen) > 2 and min(len(set(seen)), len(set(target))) > 1:
        found.append(float(stats.spearmanr(seen, target).statistic))


def write(folder: Path, outcomes: Sequence[Outcome], left_out: Sequence[str] = ()) -> None:
    """Writes ``adaptation.json`` and ``adaptation.md``; ``left_out`` are runs that diverged."""
    rows, over_pairs, ranks = tabulated(outcomes), pooled(outcomes), validator_ranks(outcomes)
    found = {
        "rows": rows,
        "pooled": over_pairs,
        "validator_rank_correlation": ranks,
        "diverged": [*left_out],
        "outcomes": [each._asdict() for each in outcomes],
    }
    folder.mkdir(parents=True, exist_ok=True)
    workdir.write_atomically(folder / "adaptation.json", json.dumps(found, indent=2) + "\n")
    text = table(rows, over_pairs, ranks) + left_out_of(left_out)
    workdir.write_atomically(folder / "adaptation.md", text)


def table(
    rows: Sequence[Mapping[str, Any]],
    over_pairs: Sequence[Mapping[str, Any]],
    ranks: Mapping[str, Mapping[str, Mapping[str, Any] | None]],
) -> str:
    """The tables in Markdown, accuracies in percent."""
    with_pairs = any(row["pair"] for row in rows)
    head = ["domains"] if with_pairs else []
    head += ["method", "seeds", "target, %", "gain", "over", "balanced, %", "source, %"]
    head += [f"[by {CHOSEN_BY[name]}]" for name in VALIDATORS]
    head += ["[best on the target]", "range over the last tenth"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        cells = [row["pair"].replace(":", " to ")] if with_pairs else []
        cells += [f"`{row['method']}`", str(len(row["seeds"])), percent(row["last"])]
        cells += [percent(row["gain"], "+"), f"`{row['over']}`" if row["gain"] else ""]
        cells += [percent(row["balanced"]), percent(row["source"])]
        names = [*(f"by_{name}" for name in VALIDATORS), "oracle"]
        cells += [f"[{percent(row[name])}]" for name in names]
        lines.append([*cells, percent(row["spread"])])
    text = markdown(lines)
    if len({row["pair"] for row in rows}) > 1:
        means = [["method", "pairs", "mean gain over pairs"], ["---"] * 3]
        for row in over_pairs:
            means.append([f"`{row['method']}`", str(row["pairs"]), percent(row["gain"], "+")])
        text += "\n" + markdown(means)
    lines = [["rank correlation with the target's accuracy", "of checkpoints", "of methods"]]
    lines.append(["---"] * 3)
    for name, found in ranks.items():
        lines.append([CHOSEN_BY[name], *(correlation(each) for each in found.values())])
    return text + "\n" + markdown(lines)


def correlation(figure: Mapping[str, Any] | None) -> str:
    """A mean and its interval, as in ``0.52 ± 0.10``."""
    if figure is None:
        return ""
    half = "" if figure["ci95"] is None else f" ± {figure['ci95']:.2f}"
    return f"{figure['mean']:.2f}{half}"
