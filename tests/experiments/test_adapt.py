"""Tables of domain adaptation: what is counted, what is chosen, and what is kept."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments import adapting, plots
from experiments.adapting import Outcome
from experiments.configs import adaptation, mnist_m, reviews

SHIFT = adaptation.Shift(
    data={"make": "tests.runs.shifted.points"},
    classes=2,
    model={"make": "jaxmeta.nn.mlp", "outputs": 4, "hidden": []},
    hidden=(),
    critic=(4,),
)


def outcome(method: str, seed: int, target: list[float], source: list[float]) -> Outcome:
    scores = {
        "accuracy": source,
        "target_accuracy": target,
        "target_balanced_accuracy": target,
        "unlabeled_mutual_information": target,
        "unlabeled_prediction_entropy": target,
    }
    return Outcome("", method, seed, [10, 20, 95, 100], scores)


OUTCOMES = [
    outcome("source_only", 0, [0.1, 0.2, 0.3, 0.4], [0.5, 0.9, 0.8, 0.7]),
    outcome("source_only", 1, [0.1, 0.2, 0.3, 0.5], [0.5, 0.6, 0.8, 0.9]),
    outcome("dann", 0, [0.2, 0.9, 0.7, 0.6], [0.9, 0.8, 0.7, 0.6]),
    outcome("dann", 1, [0.2, 0.6, 0.9, 0.8], [0.5, 0.6, 0.8, 0.9]),
]


def test_the_last_step_counts_and_gains_are_paired_by_seed() -> None:
    baseline, dann = adapting.tabulated(OUTCOMES)
    assert baseline["gain"] is None
    assert baseline["last"]["mean"] == pytest.approx(0.45)
    assert dann["last"]["mean"] == pytest.approx(0.7)
    # Gains of 0.2 and 0.3: their interval by Student's t of one degree of freedom.
    assert dann["gain"]["mean"] == pytest.approx(0.25)
    assert dann["gain"]["ci95"] == pytest.approx(12.706 * 0.05, rel=1e-3)
    assert dann["by_accuracy"]["mean"] == pytest.approx((0.2 + 0.8) / 2)
    assert dann["by_unlabeled_mutual_information"]["mean"] == pytest.approx(0.9)
    assert dann["by_unlabeled_prediction_entropy"]["mean"] == pytest.approx(0.2)
    assert dann["over"] == "source_only"
    assert dann["oracle"]["mean"] == pytest.approx(0.9)
    assert dann["spread"]["mean"] == pytest.approx(0.1)  # between steps 95 and 100


def test_adabn_gains_over_the_same_network() -> None:
    shift = SHIFT._replace(normalized={"make": "jaxmeta.nn.conv4", "filters": 4})
    cells = adapting.cells_of(shift, ["all"], 1, [], steps=4)
    assert [cell.method for cell in cells] == [*adaptation.METHODS, "batch_norm", "adabn"]
    plain, adabn = (cell.config for cell in cells[-2:])
    assert plain["model"] == adabn["model"] != cells[0].config["model"]
    modes = [each["evaluations"]["target"]["learner"]["normalization"] for each in (plain, adabn)]
    assert modes == ["running", "transductive"]
    renamed = {"source_only": "batch_norm", "dann": "adabn"}
    others = [each._replace(method=renamed[each.method]) for each in OUTCOMES]
    rows = adapting.tabulated([OUTCOMES[0], *others])
    assert [row["gain"] is None for row in rows] == [True, True, False]
    assert rows[2]["gain"]["mean"] == pytest.approx(0.25)


def test_validators_are_ranked_by_what_they_prefer() -> None:
    # Among checkpoints, and among methods at their last one; other networks are not compared.
    third = outcome("mmd", 0, [0.2, 0.9, 0.7, 0.5], [0.5, 0.6, 0.8, 0.65])
    others = [outcome("batch_norm", 0, [0.9] * 4, [0.1] * 4)]
    ranks = adapting.validator_ranks([*OUTCOMES, third, *others])
    for kind in ("checkpoints", "methods"):
        means = [each[kind]["mean"] for each in ranks.values()]
        assert means[1:] == pytest.approx([1, -1])
    # At the end of seed 0 the source has 0.7, 0.6 and 0.65, and the target 0.4, 0.6 and 0.5.
    assert ranks["accuracy"]["methods"]["mean"] == pytest.approx(-1)
    rows = adapting.tabulated(OUTCOMES[:2])
    table = adapting.table(rows, [], adapting.validator_ranks(OUTCOMES[:2]))
    assert table.endswith("| entropy | -1.00 ± 0.00 |  |\n")


def test_gains_over_pairs_count_each_pair_once() -> None:
    pairs = [each._replace(pair=pair) for pair in ("a:b", "b:a") for each in OUTCOMES]
    (row,) = adapting.pooled(pairs)
    assert (row["method"], row["pairs"]) == ("dann", 2)
    assert row["gain"]["mean"] == pytest.approx(0.25)
    assert row["gain"]["ci95"] == pytest.approx(0)


def test_runs_are_trained_once_and_reported(tmp_path: Path, capsys) -> None:
    cells = adapting.cells_of(SHIFT, ["source_only", "adda"], 1, [], steps=4)
    assert [cell.name for cell in cells] == ["source_only_0", "adda_0"]
    found = [adapting.outcome_of(cell, tmp_path, None) for cell in cells]
    capsys.readouterr()
    again = [adapting.outcome_of(cell, tmp_path, None) for cell in cells]
    assert again == found
    assert "step/s" not in capsys.readouterr().err
    adapting.write(tmp_path, found)
    plots.adaptation(tmp_path, found)
    assert (tmp_path / "adaptation.png").stat().st_size
    stored = json.loads((tmp_path / "adaptation.json").read_text())
    last = stored["rows"][0]["last"]["mean"]
    assert f"| `source_only` | 1 | {100 * last:.1f} |" in (tmp_path / "adaptation.md").read_text()
    adapting.write(tmp_path, found, ["dann_3"])
    assert "Diverged, and left out: dann_3." in (tmp_path / "adaptation.md").read_text()
    result = json.loads((tmp_path / "source_only_0" / "result.json").read_text())
    measured = result["evaluations"]["target"]["metrics"]["accuracy"]["mean"]
    assert np.isclose(last, measured, atol=1e-6)
    # Another number of steps is another run.
    longer = adapting.cells_of(SHIFT, ["source_only"], 1, [], steps=5)
    with pytest.raises(ValueError, match="another config"):
        adapting.outcome_of(longer[0], tmp_path, None)


def test_configs_name_domains_and_halve_the_steps_of_adda() -> None:
    cells = adapting.cells_of(reviews.SHIFT, ["all"], 2, [("baby", "imdb")], steps=None)
    assert len(cells) == 2 * len(adaptation.METHODS)
    assert cells[0].name == "baby_to_imdb_source_only_0"
    assert cells[0].config["data"]["target"] == "imdb"
    adda = next(cell.config for cell in cells if cell.method == "adda")
    assert adda["objective"]["pretraining"] == adda["steps"] // 2


def test_mistakes_are_told() -> None:
    for mistake, complaint in (
        (lambda: adapting.pairs_of(["books"]), "'books': give pairs"),
        (lambda: adapting.pairs_of(["books:books"]), "give pairs of two domains"),
        (lambda: adapting.load_shift("omniglot"), "'omniglot', but no SHIFT"),
        (lambda: adapting.cells_of(SHIFT, ["dan"], 1, [], None), "'dan': .*dann"),
        (lambda: adapting.cells_of(SHIFT, [], 1, [], None), "--methods is empty"),
        (lambda: adapting.cells_of(mnist_m.SHIFT, ["dann"], 1, [("a", "b")], None), "not names"),
    ):
        with pytest.raises(ValueError, match=complaint):
            mistake()
