"""Images of a user's own, in a folder of class folders: two flags and nothing else to write."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import evaluate, train
from tests.experiments.dots import patterns

CONFIG = "experiments/configs/protonet_folder.py"
SMALL = [
    "--config.steps=4",
    "--config.log_every=2",
    "--config.meta_batch=8",  # as many tasks as the tests have devices
    "--config.model.filters=4",
    "--config.evaluation.every=2",
    "--config.evaluation.validation_episodes=4",
    "--config.evaluation.episodes=16",
]


@pytest.mark.slow
def test_a_folder_of_class_folders(
    launch: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAXMETA_CACHE_DIR", str(tmp_path / "cache"))
    data = patterns(classes=20, examples=11)["train"].data
    for i, image in enumerate(np.asarray(data.examples)[..., 0]):
        path = tmp_path / "images" / f"class{i // 11}" / f"{i % 11}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    folder = tmp_path / "run"
    own = f"--config.data.path={tmp_path}/images"
    launch(train, f"--config={CONFIG}", f"--workdir={folder}", own, *SMALL)
    result = json.loads((folder / "result.json").read_text())
    assert result["data"]["make"] == "folder"
    accuracy = result["evaluations"]["trained"]["metrics"]["accuracy"]
    assert accuracy["mean"] > 0.8, "noisy copies of patterns"
    launch(evaluate, f"--workdir={folder}")
    assert json.loads((folder / "evaluations.jsonl").read_text()) == result
