"""Tables of multi-task learning: rates that validation chose, paired gains, and runs that stay."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import multitasking, plots
from experiments.configs import cifar100_tasks, clinc150_tasks, multi_mnist, multitask, review_tasks
from experiments.multitasking import Outcome
from jaxmeta.runs import EVERYTHING, prepare
from jaxmeta.runs.config import build_estimator, build_objective, complete
from jaxmeta.runs.measure import measure
from tests.runs.many import points

TASKS = multitask.Tasks(
    data={"make": "tests.runs.many.points"},
    tasks=3,
    classes=2,
    stages=[{"make": "jaxmeta.nn.mlp", "outputs": 4, "hidden": []}] * 2,
    batch=4,
    steps=100,
    depths=(1, 2, 2),
)
OUTCOMES = [
    Outcome("hard_sharing", 0.1, 0, [0.4, 0.6], 0.6),
    Outcome("hard_sharing", 0.2, 0, [0.5, 0.7], 0.7),
    Outcome("pcgrad", 0.1, 0, [0.5, 0.9], 0.9),
    Outcome("pcgrad", 0.2, 0, [0.9, 0.9], 0.8),
    Outcome("hard_sharing", 0.2, 1, [0.6, 0.8], 0.1),
    Outcome("pcgrad", 0.1, 1, [0.6, 1.0], 0.1),
]


def test_the_rate_is_chosen_by_validation_and_gains_are_paired_by_seed() -> None:
    baseline, pcgrad = multitasking.tabulated(OUTCOMES)
    assert (baseline["rate"], pcgrad["rate"]) == (0.2, 0.1)  # not the better test accuracy
    assert baseline["gain"] is None
    assert baseline["accuracy"]["mean"] == pytest.approx(0.65)
    assert pcgrad["accuracy"]["mean"] == pytest.approx(0.75)
    assert pcgrad["gain"]["mean"] == pytest.approx(0.1)
    assert pcgrad["gain"]["ci95"] == pytest.approx(0)
    assert pcgrad["worst"]["mean"] == pytest.approx(0.55)
    np.testing.assert_allclose(pcgrad["tasks"], [0.55, 0.95])


def test_rates_and_methods_that_are_none_are_told() -> None:
    assert multitasking.rates_of(["1e-3", "0.001", "1"]) == [1e-3, 1.0]
    for wrong in ("fast", "-1", "inf", "nan"):
        with pytest.raises(ValueError, match=f"'{wrong}'"):
            multitasking.rates_of([wrong])
    with pytest.raises(ValueError, match=r"'pcgrads'.*pcgrad"):
        multitasking.methods_of(TASKS, ["pcgrads"])
    with pytest.raises(ValueError, match=r"'omniglot'.*cifar100_tasks"):
        multitasking.load_tasks("omniglot")
    with pytest.raises(ValueError, match=r"'pcgrads'"):
        multitask.configure(TASKS, "pcgrads")
    # No two rows are the same network.
    same = TASKS._replace(stages=TASKS.stages[:1], depths=None)
    chosen = multitasking.methods_of(same, ["all"])
    assert {*multitask.METHODS} - {*chosen} == {"ple", "hierarchical"}
    with pytest.raises(ValueError, match="'hierarchical'"):
        multitask.configure(same, "hierarchical")


def test_runs_are_trained_once_reported_and_have_every_task(tmp_path: Path, capsys) -> None:
    found = [
        multitasking.outcome_of(TASKS._replace(steps=4), method, 0, tmp_path, None)
        for method in ("hard_sharing", "pcgrad")
    ]
    capsys.readouterr()
    again = multitasking.outcome_of(TASKS._replace(steps=4), "pcgrad", 0, tmp_path, None)
    assert again == found[1]
    assert "step/s" not in capsys.readouterr().err
    assert len(again.accuracies) == 3
    plots.multitask(tmp_path, multitasking.write(tmp_path, found))
    assert (tmp_path / "multitask.png").stat().st_size
    assert "| `pcgrad` | 1 |" in (tmp_path / "multitask.md").read_text()
    multitasking.write(tmp_path, found, ["mgda, rate 1, seed 2"])
    assert "left out: mgda, rate 1, seed 2." in (tmp_path / "multitask.md").read_text()
    stored = json.loads((tmp_path / "multitask.json").read_text())
    assert [row["method"] for row in stored["rows"]] == ["hard_sharing", "pcgrad"]
    # The result of a run has the metrics of each task, whose mean is the one it reports.
    (folder,) = tmp_path.glob("pcgrad_*_0")
    row = json.loads((folder / "result.json").read_text())["evaluations"]["trained"]
    assert row["metrics"]["accuracy"]["mean"] == pytest.approx(np.mean(again.accuracies))
    with pytest.raises(ValueError, match=r"leave out shots and ways"):
        measure(folder, points(), "test", trust=EVERYTHING, shots=1)


@pytest.mark.parametrize("method", multitask.METHODS)
def test_every_method_is_built_and_traced(method: str) -> None:
    config = complete(multitask.configure(TASKS, method))
    objective, key = build_objective(config, EVERYTHING), jax.random.key(0)
    source = points()["train"]
    batch = source.batches(4)(source.data, key)
    params, state = jax.eval_shape(objective.init, key, batch)
    loss, _ = jax.eval_shape(objective.loss, params, state, batch, key)
    assert loss.shape == ()
    assert "encoder" in params["model"] or method in (
        *("separate", "hierarchical", "shared_private", "adversarial_sharing"),
    )
    assert (build_estimator(config, EVERYTHING) is not None) == (method in multitask.WEIGHING)


def test_the_tasks_of_configs_fit_their_networks() -> None:
    for module in (cifar100_tasks, multi_mnist, review_tasks, clinc150_tasks):
        config = module.get_config()
        assert config.meta_batch == module.TASKS.tasks
        assert config.evaluations.trained.learner.normalization == "running"


def test_an_exponent_is_of_tasks_only(tmp_path: Path) -> None:
    config = multitask.configure(TASKS, "hard_sharing")
    config.sample.exponent = 0.5
    prepare(config, tmp_path / "tasks")
    config.data = {"make": "jaxmeta.data.glyphs", "classes": [4, 3, 3], "examples": 4, "size": 8}
    with pytest.raises(ValueError, match=r"config.sample.exponent is 0.5.*no tasks"):
        prepare(config, tmp_path / "classes")


@pytest.mark.parametrize("field", ["exponent", "meta_batch"])
def test_tasks_are_weighed_when_a_step_has_each_once(field: str, tmp_path: Path) -> None:
    config = multitask.configure(TASKS, "pcgrad")
    if field == "exponent":
        config.sample.exponent = 1.0
    else:
        config.meta_batch = 2 * TASKS.tasks
    told = f"config.meta_batch, {config.meta_batch}, to {TASKS.tasks}"
    with pytest.raises(ValueError, match=told):
        prepare(config, tmp_path / "tasks")
    config.estimator = {}
    prepare(config, tmp_path / "tasks")
