"""Slopes of gains on sizes, chosen steps, equal budgets, and runs that stay."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments import rotating, slopes
from experiments.configs import evenness, review_sizes
from experiments.rotating import ALONE, Outcome, Run
from tests.experiments.conftest import start

PROBLEM = evenness.Problem(
    data={"make": "tests.runs.many.sized"},
    sizes=(20, 40, 80, 160),
    classes=2,
    features={"make": "jaxmeta.nn.mlp", "outputs": 4, "hidden": []},
    budget=13_000,
    adaptations=(3,),
    batch=4,
    learning_rate=0.1,
    outer_rate=1e-3,
    rotated=1,
)
RANDOM = np.random.default_rng(0)
SIZES = np.asarray([PROBLEM.sizes_of(rotation) for rotation in range(4)])
GAINS = RANDOM.normal(size=SIZES.shape)


def of_all(statistic: slopes.Statistic, counts: list[float]) -> float:
    return float(statistic(np.asarray([counts], float))[0])


def test_the_slope_does_not_see_how_hard_a_task_is() -> None:
    exact = RANDOM.normal(size=4) * 50 - 2.5 * np.log10(SIZES)
    figure = slopes.bootstrapped(slopes.slope(exact, SIZES), 4)
    np.testing.assert_allclose(figure, [-2.5] * 3)


@pytest.mark.parametrize("counts", [[1, 1, 1, 1], [2, 0, 1, 1]])
def test_the_slope_is_that_of_least_squares_with_a_constant_per_task(counts: list[int]) -> None:
    rows = np.repeat(np.arange(4), counts)
    x, y = np.log10(SIZES[rows]).ravel(), GAINS[rows].ravel()
    constants = np.tile(np.eye(4), (len(rows), 1))
    expected = np.linalg.lstsq(np.column_stack([x, constants]), y, rcond=None)[0][0]
    assert of_all(slopes.slope(GAINS, SIZES), counts) == pytest.approx(expected)
    assert np.isnan(of_all(slopes.slope(GAINS, SIZES), [4, 0, 0, 0]))


def test_intervals_are_of_resampled_rotations() -> None:
    values = np.asarray([0.0, 1.0])
    # Both are drawn twice a quarter of the time each, and once each half of the time.
    assert slopes.bootstrapped(slopes.mean_of(values), 2) == (0.5, 0.0, 1.0)
    many = RANDOM.normal(size=100)
    figure = slopes.bootstrapped(slopes.mean_of(many), 100)
    assert figure.high - figure.low == pytest.approx(2 * 1.96 * many.std() / 10, rel=0.05)


def test_the_poorest_and_the_richest_are_found_in_every_rotation() -> None:
    assert slopes.at_sizes(SIZES, SIZES, slice(2)).tolist() == [30] * 4
    assert slopes.at_sizes(SIZES, SIZES, slice(-1, None)).tolist() == [160] * 4
    assert [row[0] for row in SIZES.tolist()] == [20, 40, 80, 160]


@pytest.mark.parametrize("way", evenness.WAYS)
def test_every_way_differentiates_as_many_examples(way: str) -> None:
    config = evenness.configure(review_sizes.PROBLEM, way, 0.5, 1)
    spent = config.steps * config.meta_batch * evenness.WAYS[way].cost(2)
    budget = review_sizes.PROBLEM.budget
    assert 0.85 * budget <= spent <= budget
    assert config.data.tasks.sizes[0] == review_sizes.PROBLEM.sizes[3]


def test_steps_are_chosen_by_another_rotation_on_its_largest_tasks(monkeypatch) -> None:
    monkeypatch.setattr(rotating, "LARGEST", 1)
    least, most = "adapted_1", "adapted_3"
    largest = [int(np.argmax(PROBLEM.sizes_of(rotation))) for rotation in (0, 1)]
    better = {0: least, 1: most}  # on the largest task; elsewhere the other one is
    found: dict[Run, rotating.Accuracies] = {}
    for rotation in (0, 1):
        valid = {
            name: [
                float((name == better[rotation]) == (task == largest[rotation]))
                for task in range(4)
            ]
            for name in (least, most)
        }
        test = {least: [0.1] * 4, most: [0.3] * 4, evenness.UNADAPTED: [0.0] * 4}
        for run in (Run(ALONE, 0.0, rotation), Run("joint", 1.0, rotation)):
            found[run] = {"valid": valid, "test": test}
    problem = PROBLEM._replace(adaptations=(1, 3))
    outcomes = rotating.outcomes_of(problem, ["joint", "joint_tuned"], found)
    chosen = {(each.method, each.rotation): each.evaluation for each in outcomes}
    assert chosen == {
        (ALONE, 0): most,
        (ALONE, 1): least,
        ("joint_tuned", 0): most,
        ("joint_tuned", 1): least,
        ("joint", 0): evenness.UNADAPTED,
        ("joint", 1): evenness.UNADAPTED,
    }


def test_gains_are_over_the_same_task_alone_and_differences_are_paired() -> None:
    outcomes = []
    for rotation, sizes in enumerate(SIZES.tolist()):
        alone = RANDOM.uniform(size=4)
        steep = {ALONE: 0.0, "joint": 0.03, "fomaml": 0.01}
        for method, slope in steep.items():
            for exponent in (0.0,) if method == ALONE else (0.0, 1.0):
                own = alone + (1 + exponent) * slope * np.log10(sizes)
                outcomes.append(Outcome(method, exponent, rotation, "", sizes, own.tolist()))
    found = rotating.tabulated(outcomes)
    rows = {(row["method"], row["exponent"]): row for row in found["rows"]}
    assert rows["joint", 1.0]["slope"]["value"] == pytest.approx(6)
    assert rows["joint", 0.0]["richest"]["value"] == pytest.approx(3 * np.log10(SIZES[0]).mean())
    gained = {(*row["steeper"], *row["than"]): row for row in found["differences"]}
    assert set(gained) == {
        ("joint", 1.0, "fomaml", 1.0),
        ("joint", 1.0, "joint", 0.0),
        ("fomaml", 1.0, "fomaml", 0.0),
    }
    paired = gained["joint", 1.0, "fomaml", 1.0]
    np.testing.assert_allclose([paired["low"], paired["value"], paired["high"]], [4] * 3)
    assert "| `joint`, 1 | `fomaml`, 1 | +4.0 (+4.0 to +4.0) |" in rotating.tables(found)


def test_what_cannot_be_is_told() -> None:
    with pytest.raises(ValueError, match=r"'omniglot'.*review_sizes"):
        rotating.load_problem("omniglot")
    with pytest.raises(ValueError, match=r"'maml'.*fomaml"):
        rotating.methods_of(["maml"])
    for wrong in ("all", "-1", "nan", "inf"):
        with pytest.raises(ValueError, match=f"'{wrong}'.*0,0.5,1"):
            rotating.exponents_of([wrong])


@pytest.mark.slow
def test_one_command_trains_tabulates_and_draws_and_stays(tmp_path: Path) -> None:
    options = [f"--workdir={tmp_path}", "--data=tests.experiments.test_evenness"]
    options += ["--rotations=2", "--exponents=1", "--methods=joint,joint_tuned"]
    first, _ = run(*options)
    found = json.loads((tmp_path / "evenness.json").read_text())
    assert len(found["outcomes"]) == 2 * 3
    assert {row["method"] for row in found["rows"]} == {ALONE, *METHODS}
    learned = {row["method"]: row["accuracy"]["value"] for row in found["rows"]}
    assert min(learned.values()) > 70
    assert (tmp_path / "evenness.png").stat().st_size > 10_000
    again, progress = run(*options)
    assert again == first
    assert "step/s" not in progress


def run(*options: str) -> tuple[str, str]:
    """What the command writes on stdout and stderr."""
    process = start("evenness", *options)
    out, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return out, errors


METHODS = ("joint", "joint_tuned")
