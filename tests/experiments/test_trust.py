"""Evaluating a folder that may be somebody else's runs only what is trusted."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments import evaluate
from jaxmeta.data import sinusoid
from jaxmeta.types import Source
from tests.experiments.conftest import WAVES
from tests.experiments.test_bad_input import sentence
from tests.runs.conftest import edit_config

Launch = Callable[..., None]


def waves() -> dict[str, Source]:
    return sinusoid()


def means(folder: Path) -> list[float]:
    """The mean of the run's own evaluation, and of the last one since."""
    lines = (folder / "evaluations.jsonl").read_text().splitlines()
    results = [json.loads(text) for text in ((folder / "result.json").read_text(), lines[-1])]
    rows = [result["evaluations"]["trained"]["metrics"] for result in results]
    return [row["squared_error"]["mean"] for row in rows]


@pytest.fixture
def folder(undisturbed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(undisturbed, tmp_path / "run"))


@pytest.mark.parametrize("field", ["data", "model", "learner", "loss", "metrics", "objective"])
def test_a_command_in_a_config_is_not_run(field: str, folder: Path, launch: Launch) -> None:
    marker = folder / "marker"
    command = {"make": "os.system", "command": f"touch {marker}"}
    edit_config(folder, **{field: {"error": command} if field == "metrics" else command})
    text = sentence(launch, evaluate, f"--workdir={folder}")
    assert "'os.system'" in text
    assert "--trust=os" in text
    text = sentence(launch, evaluate, f"--workdir={folder}", "--trust=mine,subprocess")
    assert "--trust=os" in text
    assert not marker.exists()


def test_packages_are_trusted_by_name(folder: Path, launch: Launch) -> None:
    data = "tests.experiments.test_trust.waves"
    edit_config(folder, data={"make": data})
    assert "--trust=tests" in sentence(launch, evaluate, f"--workdir={folder}")
    launch(evaluate, f"--workdir={folder}", "--trust=mine,tests")
    own, again = means(folder)
    assert again == pytest.approx(own, rel=1e-4)
    # A file of one's own has run already when its config is read.
    launch(evaluate, f"--workdir={folder}", f"--data={WAVES}", f"--data.data.make={data}")
    assert means(folder)[1] == again


def test_no_optimizer_is_needed(folder: Path, launch: Launch) -> None:
    edit_config(folder, optimizer={"make": "gone_long_ago.lion"})
    for item in folder.glob("checkpoints/*/optimizer"):
        shutil.rmtree(item)
    launch(evaluate, f"--workdir={folder}")
    own, again = means(folder)
    assert again == pytest.approx(own, rel=1e-4)
