"""Whatever happens to a run, the same command brings it to the same end."""

import json
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from jaxmeta.runs import checkpoint
from tests.experiments.conftest import finish, last_train_state, read_metrics, start_waves


def wait_for(event: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not event():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.001)


def saving(folder: Path) -> bool:
    return any(not path.name.isdigit() for path in (folder / "checkpoints").glob("*"))


def assert_same_end(folder: Path, undisturbed: Path) -> None:
    ends = [last_train_state(path) for path in (folder, undisturbed)]
    assert [leaf.tobytes() for leaf in ends[0]] == [leaf.tobytes() for leaf in ends[1]]
    texts = [(path / "metrics.jsonl").read_text() for path in (folder, undisturbed)]
    assert texts[0] == texts[1]
    results = [json.loads((path / "result.json").read_text()) for path in (folder, undisturbed)]
    for result in results:
        del result["train_seconds"]
    assert results[0] == results[1]


def kill_at(event: Callable[[], bool], folder: Path, delay: float = 0) -> None:
    process = start_waves(folder)
    wait_for(event, process)
    time.sleep(delay)
    process.kill()
    assert finish(process)[0] == -signal.SIGKILL


def test_killed_while_saving_and_resumed(tmp_path: Path, undisturbed: Path) -> None:
    kill_at(lambda: saving(tmp_path / "run"), tmp_path / "run")
    assert finish(start_waves(tmp_path / "run"))[0] == 0
    assert_same_end(tmp_path / "run", undisturbed)


@pytest.mark.slow
def test_killed_five_times_and_resumed(tmp_path: Path, undisturbed: Path) -> None:
    folder = tmp_path / "run"
    chance = random.Random(0)
    kill_at(lambda: True, folder, chance.uniform(0, 2))  # starting
    kill_at(lambda: (folder / "config.json").exists(), folder, chance.uniform(0, 1))  # compiling
    kill_at(lambda: len(read_metrics(folder)) >= 6, folder)  # between checkpoints
    kill_at(lambda: saving(folder), folder, chance.uniform(0, 0.05))
    kill_at(lambda: (folder / "checkpoints" / "12").exists(), folder, chance.uniform(0, 1))
    assert not (folder / "result.json").exists()
    assert finish(start_waves(folder))[0] == 0
    assert_same_end(folder, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_tells_how_to_resume(
    number: signal.Signals, tmp_path: Path, undisturbed: Path
) -> None:
    folder = tmp_path / "run"
    process = start_waves(folder)
    wait_for(lambda: len(read_metrics(folder)) >= 1, process)
    process.send_signal(number)
    status, errors = finish(process)
    assert status == 1
    step = len([row for row in read_metrics(folder) if "train/loss" in row])
    assert f"Stopped by {number.name} and saved at step {step}: run it again" in errors
    assert "Traceback" not in errors
    assert int(last_train_state(folder)[0]) == step
    assert finish(start_waves(folder))[0] == 0
    assert_same_end(folder, undisturbed)


@pytest.mark.slow
def test_a_signal_during_the_evaluation_stops_it(tmp_path: Path, undisturbed: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    (folder / "result.json").unlink()
    (folder / "curve.png").unlink()
    process = start_waves(folder)
    wait_for(lambda: len(list((folder / "events").iterdir())) > 1, process)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    status, errors = finish(process)
    assert status == 128 + signal.SIGINT
    assert "Stopped by SIGINT: run the same command again." in errors
    assert "Traceback" not in errors


def test_divergence_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = ["--config.optimizer.learning_rate.init_value=1e17", "--config.evaluation.every=1"]
    status, errors = finish(start_waves(folder, *options))
    assert status == 1
    last = errors.splitlines()[-1]
    rows = read_metrics(folder)
    assert rows, "the steps before the divergence are kept"
    assert f"not finite at step {rows[-1]['step'] + 1};" in last
    assert f"the last good checkpoint is step {rows[-1]['step']} in '{folder}/checkpoints'" in last
    assert "try a smaller learning rate" in last
    assert all(np.isfinite(leaf).all() for leaf in last_train_state(folder))
    assert not (folder / "result.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage", ["empty", "params", "optimizer", "missing", "item", "info", "metrics"]
)
def test_a_broken_checkpoint_is_set_aside(damage: str, tmp_path: Path, undisturbed: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    newest = folder / "checkpoints" / "12"
    if damage == "empty":
        shutil.rmtree(newest)
        newest.mkdir()
    elif damage == "missing":
        next(newest.glob("params/d/*")).unlink()
    elif damage == "item":
        shutil.rmtree(newest / "optimizer")
    else:
        pattern = {"info": "info/metadata", "metrics": "metrics/metrics"}
        for file in newest.glob(pattern.get(damage, f"{damage}/d/*")):
            file.write_bytes(file.read_bytes()[:20])
    status, errors = finish(start_waves(folder))
    assert status == 0, errors
    # Orbax's threads may write of the same damage, even into the line before.
    assert errors.count("Checkpoint 12 cannot be read") == 1
    warning = errors.partition("Checkpoint")[2].partition("\n")[0]
    (aside,) = folder.glob("unreadable-12-*")
    assert str(aside) in warning
    assert_same_end(folder, undisturbed)


class Weights(NamedTuple):
    params: dict[str, np.ndarray]


def test_the_best_is_the_last_of_equals_and_always_finite(tmp_path: Path) -> None:
    weights = Weights({"x": np.zeros(2, np.float32)})
    for higher, scores in ((True, [3, 4, 4, np.nan, 1]), (False, [3, 2, 2, np.nan, 2.5])):
        folder = tmp_path / str(higher)
        with checkpoint.open_checkpoints(folder, higher) as checkpoints:
            for step, score in enumerate(scores):
                checkpoint.save(checkpoints, step, weights, {}, score)
            assert checkpoints.best_step() == 2
            assert checkpoints.all_steps() == [2, 3, 4]
        with checkpoint.open_checkpoints(folder, higher) as checkpoints:
            assert checkpoints.best_step() == 2


def test_an_unfinished_save_is_ignored(tmp_path: Path, undisturbed: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    newest = folder / "checkpoints" / "12"
    newest.rename(newest.with_name("12.orbax-checkpoint-tmp"))
    assert int(last_train_state(folder)[0]) == 8


@pytest.mark.slow
def test_when_no_checkpoint_can_be_read_nothing_is_touched(
    tmp_path: Path, undisturbed: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    for file in folder.glob("checkpoints/*/info/metadata"):
        file.write_text("{")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    status, errors = finish(start_waves(folder))
    assert status == 1
    assert errors.startswith(f"Error: No checkpoint in '{folder}/checkpoints' can be read")
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert before == after


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again(tmp_path: Path, undisturbed: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    times = {path: path.stat().st_mtime_ns for path in (folder / "checkpoints").rglob("*")}
    status, errors = finish(start_waves(folder))
    assert status == 0, errors
    assert {p: p.stat().st_mtime_ns for p in (folder / "checkpoints").rglob("*")} == times
    seconds = [
        json.loads((path / "result.json").read_text())["train_seconds"]
        for path in (folder, undisturbed)
    ]
    assert seconds[0] == seconds[1]
    assert_same_end(folder, undisturbed)
