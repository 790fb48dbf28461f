"""Devices and processes change no result, and what befalls one process is told by the others."""

import json
import socket
import subprocess
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.experiments.conftest import finish, last_train_state, read_metrics, start_waves
from tests.experiments.test_survival import wait_for

LONG = [
    "--config.steps=100000",
    "--config.evaluation.every=5",
    "--config.optimizer.learning_rate.decay_steps=100",
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def join_flags(process: int, processes: int, port: int) -> list[str]:
    return [
        f"--coordinator=127.0.0.1:{port}",
        f"--processes={processes}",
        f"--process={process}",
    ]


def start_two(folder: Path, *arguments: str, devices: int = 2) -> list[subprocess.Popen[str]]:
    port = free_port()
    return [
        start_waves(folder, *join_flags(i, 2, port), *arguments, devices=devices) for i in (0, 1)
    ]


def assert_well(processes: list[subprocess.Popen[str]]) -> None:
    for status, errors in map(finish, processes):
        assert status == 0, errors


def assert_same_to_rounding(folder: Path, other: Path) -> None:
    for one, another in zip(last_train_state(folder), last_train_state(other), strict=True):
        np.testing.assert_allclose(one, another, rtol=1e-5, atol=1e-5)
    for row, another in zip(read_metrics(folder), read_metrics(other), strict=True):
        assert row.keys() == another.keys()
        for name, value in row.items():
            np.testing.assert_allclose(value, another[name], rtol=1e-3, atol=1e-3)
    results = [json.loads((path / "result.json").read_text()) for path in (folder, other)]
    assert results[0]["best_step"] == results[1]["best_step"]
    one, another = (result["evaluations"]["trained"]["metrics"] for result in results)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), one, another)


@pytest.mark.slow
@pytest.mark.parametrize("tasks", [8, 10])  # eight devices do not divide ten
def test_any_devices_and_processes_train_and_evaluate_alike(tmp_path: Path, tasks: int) -> None:
    options = [f"--config.meta_batch={tasks}", "--config.steps=20"]
    assert_well([start_waves(tmp_path / "one", *options, devices=1)])
    assert_well([start_waves(tmp_path / "shard_map", *options, devices=8)])
    assert_well([start_waves(tmp_path / "pmap", *options, "--spread=pmap", devices=8)])
    assert_well(start_two(tmp_path / "two", *options, devices=4))
    for name in ("shard_map", "pmap", "two"):
        assert_same_to_rounding(tmp_path / name, tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_process_killed_stops_the_other_and_one_goes_on(tmp_path: Path, lost: int) -> None:
    folder = tmp_path / "run"
    processes = start_two(folder, *LONG)
    wait_for(lambda: len(read_metrics(folder)) >= 14, processes[lost])
    processes[lost].kill()
    status, errors = finish(processes[1 - lost], 100)
    assert status not in (0, None)
    assert f"process {1 - lost} lost another one" in errors or "another task died" in errors
    finish(processes[lost])
    reached = read_metrics(folder)[-1]["step"]
    ends = [f"--config.steps={reached + 5}", *LONG[1:]]
    config = folder / "config.json"
    config.write_text(config.read_text().replace("100000", str(reached + 5)))
    assert_well([start_waves(folder, *ends, devices=8)])
    assert_well([start_waves(tmp_path / "alone", *ends, devices=1)])
    assert_same_to_rounding(folder, tmp_path / "alone")


@pytest.mark.slow
def test_a_signal_to_one_process_saves_and_stops_all(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    processes = start_two(folder, *LONG)
    wait_for(lambda: bool(read_metrics(folder)), processes[1])
    processes[1].terminate()
    for status, errors in map(finish, processes):
        assert status == 1
        assert "Stopped by SIGTERM and saved at step" in errors
    assert last_train_state(folder)[0] == read_metrics(folder)[-1]["step"]


@pytest.mark.slow
def test_a_process_that_starts_late_is_waited_for(tmp_path: Path) -> None:
    port = free_port()
    first = start_waves(tmp_path / "run", *join_flags(0, 2, port), devices=1)
    time.sleep(10)
    assert first.poll() is None
    assert_well([first, start_waves(tmp_path / "run", *join_flags(1, 2, port), devices=1)])


@pytest.mark.slow
@pytest.mark.parametrize("process", [0, 1])
def test_others_that_do_not_answer_are_not_waited_for_in_vain(tmp_path: Path, process: int) -> None:
    began = time.monotonic()
    flags = [*join_flags(process, 2, free_port()), "--join_seconds=3"]
    status, errors = finish(start_waves(tmp_path / "run", *flags), 60)
    assert status == 1
    assert "did not answer within 3 seconds" in errors.splitlines()[-1]
    assert time.monotonic() - began < 60
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_processes_with_different_configs_are_told(tmp_path: Path) -> None:
    port, folder = free_port(), tmp_path / "run"
    processes = [
        start_waves(folder, *join_flags(i, 2, port), f"--config.seed={i}", devices=1)
        for i in (0, 1)
    ]
    (_, _), (status, errors) = map(finish, processes)
    assert status == 1
    assert "holds a run of another config (it differs in seed)" in errors


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--processes=2"], "give all three, or none"),
        (["--coordinator=here:1", "--processes=2", "--process=2"], "process is 2"),
    ],
)
def test_flags_that_do_not_go_together(tmp_path: Path, flags: list[str], sentence: str) -> None:
    status, errors = finish(start_waves(tmp_path / "run", *flags))
    assert status == 1
    assert errors.startswith("Error: ")
    assert sentence in errors


@pytest.mark.slow
def test_a_full_disk_stops_a_run_that_can_be_resumed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    wide = ["--config.model.hidden=(600, 600)"]

    # A file that may not grow, beyond 600 blocks, fails as on a disk that is full. The largest
    # array is written in as many pieces as there are devices: two pieces are of 1,300 blocks each.
    little_room = ["sh", "-c", 'ulimit -f 600; exec "$@"', "sh"]
    status, errors = finish(start_waves(folder, *wide, prefix=little_room))
    assert status == 1
    assert "Error: Step 4 could not be saved" in errors
    assert "run the same command, which starts over" in errors
    assert_well([start_waves(folder, *wide)])
    assert_well([start_waves(tmp_path / "undisturbed", *wide)])
    for one, other in zip(
        last_train_state(folder), last_train_state(tmp_path / "undisturbed"), strict=True
    ):
        np.testing.assert_array_equal(one, other)
