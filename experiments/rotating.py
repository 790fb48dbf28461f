"""Training and tabulating methods on tasks of unlike sizes, for ``experiments.evenness``."""

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxmeta.runs import workdir
from jaxmeta.runs.config import complete
from jaxmeta.runs.spec import suggest

from .configs import evenness
from .seeds import markdown, results_of
from .slopes import Figure, Statistic, at_sizes, bootstrapped, difference, mean_of, slope

ALONE = "alone"
ADAPTED = {"joint_tuned": "joint", "fomaml": "fomaml", "reptile": "reptile", ALONE: ALONE}
"""Methods that end with steps on each task's own examples, and how they are trained before."""
UNADAPTED = {"joint": "joint", "prototypical": "prototypical"}
METHODS = ("joint", "joint_tuned", "fomaml", "reptile", "prototypical")
JOINT, META = METHODS[:2], METHODS[2:]
FEW = 4
LARGEST = 5


class Outcome(NamedTuple):
    """What a method reached in one rotation of the sizes.

    Attributes:
      method: the method.
      exponent: of the sizes, by which tasks were drawn.
      rotation: the rotation.
      evaluation: which evaluation of the run this is, such as one after so many steps.
      sizes: training examples of each task.
      accuracies: on the test examples of each task.
    """

    method: str
    exponent: float
    rotation: int
    evaluation: str
    sizes: Sequence[int]
    accuracies: Sequence[float]


def load_problem(name: str) -> evenness.Problem:
    """The problem of a module, by the module's name."""
    dotted = name if "." in name else f"{__package__}.configs.{name}"
    try:
        problem: evenness.Problem = importlib.import_module(dotted).PROBLEM
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"--data is '{name}', but no PROBLEM can be had from {dotted} ({error}): give "
            "review_sizes, or the dotted name of a module of your own."
        ) from error
    return problem


def methods_of(given: Sequence[str]) -> list[str]:
    """The methods to compare; raises ``ValueError`` if there is none of a name."""
    chosen = [*METHODS] if "all" in given else list(dict.fromkeys(given))
    for method in chosen:
        if method not in METHODS:
            raise ValueError(f"There is no method '{method}': {suggest(method, METHODS)}.")
    if not chosen:
        raise ValueError("--methods is empty: give all, or some.")
    return chosen


def exponents_of(given: Sequence[str]) -> list[float]:
    """The exponents; raises ``ValueError`` if one is not a number of 0 or more."""
    exponents = []
    for each in given:
        try:
            exponents.append(float(each))
        except ValueError:
            exponents.append(-1.0)
        if not 0 <= exponents[-1] < float("inf"):
            raise ValueError(f"--exponents has '{each}': give numbers of 0 or more, as in 0,0.5,1.")
    if not exponents:
        raise ValueError("--exponents is empty: give one or more, as in 0,0.5,1.")
    return list(dict.fromkeys(exponents))


class Run(NamedTuple):
    """A run: how it is trained, the exponent by which tasks are drawn, and the rotation."""

    way: str
    exponent: float
    rotation: int

    @property
    def name(self) -> str:
        """Of its folder."""
        drawn = "" if self.way == ALONE else f"{self.exponent:g}_"
        return f"{self.way}_{drawn}{self.rotation}"


Accuracies = dict[str, dict[str, list[float]]]
"""By split, by evaluation: the accuracy on each task."""


def accuracies_of(
    problem: evenness.Problem, run: Run, folder: Path, data_dir: str | None
) -> Accuracies:
    """Trains a run if it is not yet trained, and reads what it reached.

    Raises:
      Diverged: its training diverged.
    """
    config = evenness.configure(problem, *run)
    results = results_of(complete(config), folder / run.name, data_dir, ["valid", "test"])
    return {
        split: {
            name: row["metrics"]["accuracy"]["tasks"] for name, row in result["evaluations"].items()
        }
        for split, result in results.items()
    }


def runs_of(methods: Sequence[str], exponents: Sequence[float], rotations: int) -> list[Run]:
    """All runs that a comparison needs, rotation by rotation."""
    ways = dict.fromkeys({**ADAPTED, **UNADAPTED}[method] for method in methods)
    return [
        run
        for rotation in range(rotations)
        for run in (
            Run(ALONE, 0.0, rotation),
            *(Run(way, exponent, rotation) for way in ways for exponent in exponents),
        )
    ]


def outcomes_of(
    problem: evenness.Problem, methods: Sequence[str], found: dict[Run, Accuracies]
) -> list[Outcome]:
    """What each method reached, with the number of steps that another rotation chose.

    The steps of a rotation are those with the best validation on the five largest tasks of the
    next one. So no task chooses for itself, and a task with 20 examples needs none for validation.
    """
    rotations = 1 + max(run.rotation for run in found)
    outcomes = []
    for run, accuracies in found.items():
        for method in (ALONE, *methods):
            if method in UNADAPTED and UNADAPTED[method] == run.way:
                name = evenness.UNADAPTED
            elif ADAPTED.get(method) == run.way:
                after = run._replace(rotation=(run.rotation + 1) % rotations)
                if after not in found:
                    continue
                name = chosen_steps(problem, found[after]["valid"], after.rotation)
            else:
                continue
            sizes = problem.sizes_of(run.rotation)
            own = accuracies["test"][name]
            outcomes.append(Outcome(method, run.exponent, run.rotation, name, sizes, own))
    return outcomes


def chosen_steps(problem: evenness.Problem, valid: dict[str, list[float]], rotation: int) -> str:
    """The evaluation with the best validation on the largest tasks of a rotation."""
    largest = np.argsort(problem.sizes_of(rotation))[-LARGEST:]
    names = [evenness.name_of(steps) for steps in problem.adaptations]
    return max(names, key=lambda name: float(np.mean(np.asarray(valid[name])[largest])))


class Measured(NamedTuple):
    """A method's accuracies and gains in percent, ``[rotations, tasks]``, and the sizes."""

    accuracies: np.ndarray
    gains: np.ndarray
    sizes: np.ndarray

    @property
    def slope(self) -> Statistic:
        """Of the gains on the logarithm of the size."""
        return slope(self.gains, self.sizes)


def measured(outcomes: Sequence[Outcome]) -> dict[tuple[str, float], Measured]:
    """The accuracies of every method and exponent, with the gains over each task alone."""
    alone = {each.rotation: each for each in outcomes if each.method == ALONE}
    cells: dict[tuple[str, float], Measured] = {}
    for key in dict.fromkeys((each.method, each.exponent) for each in outcomes):
        own = [each for each in outcomes if (each.method, each.exponent) == key]
        accuracies = 100 * np.asarray([each.accuracies for each in own])
        base = 100 * np.asarray([alone[each.rotation].accuracies for each in own])
        sizes = np.asarray([each.sizes for each in own])
        cells[key] = Measured(accuracies, accuracies - base, sizes)
    return cells


def tabulated(outcomes: Sequence[Outcome]) -> dict[str, list[dict[str, Any]]]:
    """Rows of methods, and rows of differences between the slopes of two methods."""
    cells = measured(outcomes)
    rows = []
    for (method, exponent), cell in cells.items():
        rotations, _ = cell.gains.shape
        statistics = {
            "accuracy": mean_of(cell.accuracies.mean(axis=1)),
            "worst": mean_of(cell.accuracies.min(axis=1)),
            "poorest": mean_of(at_sizes(cell.gains, cell.sizes, slice(FEW))),
            "richest": mean_of(at_sizes(cell.gains, cell.sizes, slice(-FEW, None))),
            "slope": cell.slope,
        }
        figures = {
            name: bootstrapped(each, rotations)._asdict() for name, each in statistics.items()
        }
        rows.append({"method": method, "exponent": exponent, **figures})
    return {"rows": rows, "differences": differences(cells)}


def differences(cells: dict[tuple[str, float], Measured]) -> list[dict[str, Any]]:
    """How much steeper the gains of joint training are, and those of drawing by size."""
    exponents = sorted({exponent for method, exponent in cells if method != ALONE})
    most, least = exponents[-1], exponents[0]
    pairs = [((joint, most), (meta, most)) for joint in JOINT for meta in META]
    if most != least:
        pairs += [((method, most), (method, least)) for method in METHODS]
    rows = []
    for one, other in pairs:
        if one in cells and other in cells:
            apart = difference(cells[one].slope, cells[other].slope)
            figure = bootstrapped(apart, len(cells[one].gains))
            rows.append({"steeper": [*one], "than": [*other], **figure._asdict()})
    return rows


def write(folder: Path, outcomes: Sequence[Outcome]) -> None:
    """Writes ``evenness.json`` and ``evenness.md``."""
    found = tabulated(outcomes)
    everything = {**found, "outcomes": [each._asdict() for each in outcomes]}
    workdir.write_atomically(folder / "evenness.json", json.dumps(everything, indent=2) + "\n")
    workdir.write_atomically(folder / "evenness.md", tables(found))


def tables(found: dict[str, list[dict[str, Any]]]) -> str:
    """Both tables in Markdown, in percent and points."""
    head = ["method", "exponent", "accuracy", "worst task", "gain of the poorest four"]
    lines = [[*head, "of the richest four", "slope, points per factor of ten"], ["---"] * 7]
    for row in found["rows"]:
        alone = row["method"] == ALONE
        cells = [f"`{row['method']}`", "" if alone else f"{row['exponent']:g}"]
        cells += [shown(row["accuracy"]), shown(row["worst"])]
        gains = ["" if alone else shown(row[name], "+") for name in ("poorest", "richest", "slope")]
        lines.append([*cells, *gains])
    steeper = [["slope of", "minus that of", "difference"], ["---"] * 3]
    for row in found["differences"]:
        names = [f"`{method}`, {exponent:g}" for method, exponent in (row["steeper"], row["than"])]
        steeper.append([*names, shown(row, "+")])
    return f"{markdown(lines)}\n{markdown(steeper)}"


def shown(figure: dict[str, Any], sign: str = "") -> str:
    """A value and its interval, as in ``1.2 (0.3 to 2.1)``."""
    value, low, high = (f"{figure[each]:{sign}.1f}" for each in Figure._fields)
    return f"{value} ({low} to {high})"
