"""What the rungs of a ladder reached, and what they gain over each other, in a table."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxmeta.runs import workdir

from .seeds import left_out_of, markdown, mean_and_interval, percent

PLAIN, ORACLE = "plain", "oracle"
RUNGS = (
    *("plain", "untrained", "larger", "copies", "zero", "noise", "calibration"),
    *("generator", "learned_codes", "shuffled", "oracle"),
)
"""From the bottom to the top."""


class Outcome(NamedTuple):
    """What a rung reached.

    Attributes:
      learner: the learner that it is a rung for.
      shots: examples of each class.
      rung: the rung.
      seed: its seed.
      rate: the rate at which it, or the plain learner in it, was trained; of logistic regression,
        its inverse penalty.
      validation: the best validation accuracy.
      values: the accuracy on each test episode.
    """

    learner: str
    shots: int
    rung: str
    seed: int
    rate: float
    validation: float
    values: Sequence[float]


def classes_of(rung: str) -> int | None:
    """How many classes a generator is trained on alone, as in ``"generator:16"``."""
    _, colon, classes = rung.partition(":")
    return int(classes) if colon else None


def chosen_rates(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """The rate of each trained rung whose first seed has the best validation."""
    best: dict[str, Outcome] = {}
    for each in outcomes:
        leads = each.rung in best and best[each.rung].validation >= each.validation
        if each.seed == 0 and not leads:
            best[each.rung] = each
    return {rung: each.rate for rung, each in best.items()}


def tabulated(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A row for each learner, number of shots and rung, with paired gains over other rungs."""
    rows = []
    for learner, shots in dict.fromkeys((each.learner, each.shots) for each in outcomes):
        own = [each for each in outcomes if (each.learner, each.shots) == (learner, shots)]
        rates = chosen_rates(own)
        kept = {
            (each.rung, each.seed): np.asarray(each.values)
            for each in own
            if each.rate == rates[each.rung]
        }
        for rung in sorted(dict.fromkeys(rung for rung, _ in kept), key=place_of):
            at = sorted(seed for name, seed in kept if name == rung)
            gain = paired(kept, rung, PLAIN)
            whole = paired(kept, ORACLE, PLAIN)
            share = None if whole is None or gain is None else gain["mean"] / whole["mean"]
            rows.append(
                {
                    "learner": learner,
                    "shots": shots,
                    "rung": rung,
                    "rate": rates[rung],
                    "seeds": at,
                    "accuracy": mean_and_interval([float(kept[rung, s].mean()) for s in at]),
                    "gain": gain,
                    "over_larger": paired(kept, rung, "larger"),
                    "over_zero": paired(kept, rung, "zero"),
                    "share": share,
                }
            )
    return rows


def paired(
    kept: Mapping[tuple[str, int], np.ndarray], rung: str, other: str
) -> dict[str, Any] | None:
    """What a rung gains over another on the same episodes, by the seeds that both have.

    The interval is of 95%, for other seeds and other episodes: half of it is the root of the sum of
    the squares of Student's t interval over seeds and of that over episodes.
    """
    at = [seed for name, seed in kept if name == rung and (other, seed) in kept]
    if not at or rung == other:
        return None
    apart = np.stack([kept[rung, seed] - kept[other, seed] for seed in at])
    gain = mean_and_interval(apart.mean(axis=1).tolist())
    episodes = 1.96 * float(apart.mean(axis=0).std(ddof=1)) / apart.shape[1] ** 0.5
    half = float(np.hypot(gain["ci95"] or 0.0, episodes))
    return {"mean": gain["mean"], "ci95": half, "above": int((apart.mean(axis=1) > 0).sum())}


def place_of(rung: str) -> tuple[int, int]:
    """Where a rung stands in the table."""
    return RUNGS.index(rung.partition(":")[0]), classes_of(rung) or 0


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table in Markdown, in percent."""
    head = ["learner", "shots", "rung", "accuracy, %", "gain over `plain`", "seeds above it"]
    head += ["gain over `larger`", "over `zero`", "share of the oracle's gain, %", "rate"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        cells = [f"`{row['learner']}`", str(row["shots"]), f"`{row['rung']}`"]
        cells += [percent(row["accuracy"]), percent(row["gain"], "+")]
        cells += [f"{row['gain']['above']} of {len(row['seeds'])}" if row["gain"] else ""]
        cells += [percent(row[name], "+") for name in ("over_larger", "over_zero")]
        cells += ["" if row["share"] is None else f"{100 * row['share']:.0f}"]
        lines.append([*cells, f"{row['rate']:g}"])
    return markdown(lines)


def table_of_generators(rows: Sequence[Mapping[str, Any]]) -> str:
    """What generators imagine, in Markdown; nothing without any."""
    if not rows:
        return ""
    head = [
        "learner",
        "shots",
        "rung",
        "variance of what is imagined of one seed, % of the class's",
    ]
    head += ["energy distance to real examples, imagined", "the seed alone"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        cells = [f"`{row['learner']}`", str(row["shots"]), f"`{row['rung']}`"]
        cells += [f"{100 * row['variance']:.1f}"]
        energies = [f"{row[name]:.2f}" for name in ("energy_of_generator", "energy_of_copies")]
        lines.append([*cells, *energies])
    return "\n" + markdown(lines)


def write(
    folder: Path,
    outcomes: Sequence[Outcome],
    left_out: Sequence[str] = (),
    generators: Sequence[Mapping[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Writes ``ladder.json`` and ``ladder.md``, and returns the rows.

    Args:
      folder: where to write.
      outcomes: what rungs reached.
      left_out: what diverged.
      generators: what :func:`experiments.imagined.realism` found of generators.
    """
    rows = tabulated(outcomes)
    folder.mkdir(parents=True, exist_ok=True)
    found = {"rows": rows, "generators": [*generators], "diverged": [*left_out]}
    workdir.write_atomically(folder / "ladder.json", json.dumps(found, indent=2) + "\n")
    text = table(rows) + table_of_generators(generators) + left_out_of(left_out)
    workdir.write_atomically(folder / "ladder.md", text)
    return rows
