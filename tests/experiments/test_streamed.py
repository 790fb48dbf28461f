"""A run whose images are read ahead of its steps is the run whose images are on the device."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.experiments.conftest import finish, last_train_state, read_metrics, start
from tests.experiments.test_processes import assert_same_to_rounding, free_port, join_flags
from tests.experiments.test_survival import wait_for

STREAMED = Path(__file__).with_name("streamed.py")


def train(folder: Path, *arguments: str, **given: Any) -> Any:
    return start("train", f"--config={STREAMED}", f"--workdir={folder}", *arguments, **given)


@pytest.mark.slow
def test_streamed_runs_are_those_of_memory(tmp_path: Path) -> None:
    runs = {"memory": ["--config.data.streamed=False"], "streamed": []}
    for name, options in runs.items():
        status, errors = finish(train(tmp_path / name, *options, devices=1))
        assert status == 0, errors
    ends = [last_train_state(tmp_path / name) for name in runs]
    for one, other in zip(*ends, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)

    # Stopped in the middle, and resumed by two processes whose four devices do not share five tasks
    # equally.
    folder = tmp_path / "resumed"
    process = train(folder, devices=1)
    wait_for(lambda: len(read_metrics(folder)) >= 4, process)
    process.kill()
    finish(process)
    port = free_port()
    two = [train(folder, *join_flags(i, 2, port), devices=2) for i in (0, 1)]
    for status, errors in map(finish, two):
        assert status == 0, errors
    assert_same_to_rounding(folder, tmp_path / "streamed")


@pytest.mark.slow
def test_an_image_that_cannot_be_read_stops_a_run_in_one_sentence(tmp_path: Path) -> None:
    status, errors = finish(train(tmp_path / "run", "--config.data.broken=40", devices=1))
    assert status == 1
    assert "Error: Record 40 cannot be read (OSError: bad sector)" in errors.splitlines()[-1]
