"""What is printed, and the figures in it."""

import numpy as np
import pytest

from benchmarks import timing
from benchmarks.machine import Device, describe
from benchmarks.problem import Problem, make_data, relative_difference
from benchmarks.report import cell, spread, table
from benchmarks.workers import repeat


def test_spread_is_in_milliseconds():
    assert spread([0.004, 0.001, 0.002]) == {"median_ms": 2, "min_ms": 1, "max_ms": 4}


def test_a_table_has_all_columns_and_leaves_gaps():
    rows = [{"name": "a", "seconds": 1.5}, {"name": "b", "skipped": "why"}]
    assert table(rows) == (
        "| name | seconds | skipped |\n| --- | --- | --- |\n| a | 1.5 |  |\n| b |  | why |"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("a", "a"),
        (5, "5"),
        (0.01234, "0.0123"),
        (12345.6, "12,346"),
        (7.3e10, "7.3e+10"),
    ],
)
def test_cells_are_short(value: object, text: str):
    assert cell(value) == text


def test_calls_take_turns():
    seen: list[str] = []

    def call(name: str) -> float:
        seen.append(name)
        return float(len(seen))

    seconds = repeat({name: lambda name=name: call(name) for name in "abc"}, 8)
    rounds = ["".join(seen[i : i + 3]) for i in range(0, 24, 3)]
    assert {"".join(sorted(one)) for one in rounds} == {"abc"}
    assert len(set(rounds)) > 2
    assert all(seen[int(second) - 1] == name for name in "abc" for second in seconds[name])


def test_the_difference_is_over_all_leaves_together():
    reference = {"a": np.array([3.0]), "b": np.array([[4.0]])}
    moved = {"a": np.array([3.0]), "b": np.array([[4.5]])}
    assert relative_difference(moved, reference) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="return every leaf in the layout"):
        relative_difference({"a": np.array([3.0])}, reference)


def agreeing(monkeypatch: pytest.MonkeyPatch, theirs: list[float]) -> float:
    """What is told of an implementation that gives these where ours gives 1 for every task."""
    monkeypatch.setattr(
        timing, "gradient_of_task", lambda *arguments: {"a": np.array([theirs[arguments[-1]]])}
    )
    ours = [{"a": np.array([1.0])}] * len(theirs)
    return timing.difference_from(ours, "other", Problem(), make_data(Problem()), {})


def test_one_task_without_a_kink_is_enough(monkeypatch: pytest.MonkeyPatch):
    assert agreeing(monkeypatch, [1.1, 1.00001, 1.2]) == pytest.approx(1e-5)


@pytest.mark.parametrize("wrong", [1.0002, float("nan")])
def test_a_wrong_gradient_is_named(monkeypatch: pytest.MonkeyPatch, wrong: float):
    with pytest.raises(ValueError, match="The gradient of other differs from that of jaxmeta"):
        agreeing(monkeypatch, [wrong, wrong])


def test_the_machine_is_one_line():
    assert "\n" not in describe(Device("cpu", 1e11))
    assert "cpu, 100 GFLOP/s in float32 matrix products" in describe(Device("cpu", 1e11))


def test_data_have_the_stated_shapes():
    images = make_data(Problem(ways=3, shots=2, queries=4, tasks=5, image_size=16))
    assert images.support_x.shape == (5, 6, 16, 16, 1)
    assert images.query_y[0].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    waves = make_data(Problem(model="mlp", ways=1, shots=2, queries=4, tasks=5))
    assert waves.support_x.shape == (5, 2, 1)
    assert waves.query_y.shape == (5, 4, 1)
