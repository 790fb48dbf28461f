import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest
from absl.testing import flagsaver

from experiments import program
from jaxmeta.runs import checkpoint, workdir
from jaxmeta.runs.writers import read_json_lines
from jaxmeta.train import TrainState
from tests.quick import QUICK

ROOT = Path(__file__).parents[2]
WAVES = Path(__file__).with_name("waves.py")
# Half of what a short run computes is its compilation, and many are alike.
CACHED = {
    "JAX_COMPILATION_CACHE_DIR": tempfile.mkdtemp(prefix="jaxmeta-tests-"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
}
DOTS = Path(__file__).with_name("dots.py")


def start(
    module: str,
    *arguments: object,
    devices: int | None = None,
    prefix: Sequence[str] = (),
) -> subprocess.Popen[str]:
    """Starts an entry point as a user does, on as many devices as there are cores, or as are given.

    ``prefix`` is a command that starts the command which follows it.
    """
    given = "" if devices is None else f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [*prefix, sys.executable, "-m", f"experiments.{module}", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"{QUICK} {given}", **CACHED},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], seconds: float = 300) -> tuple[int, str]:
    """Waits for an entry point; its exit status and what it wrote on stderr."""
    _, errors = process.communicate(timeout=seconds)
    return process.returncode, errors


def start_waves(folder: Path, *arguments: str, **given: Any) -> subprocess.Popen[str]:
    return start("train", f"--config={WAVES}", f"--workdir={folder}", *arguments, **given)


def last_train_state(folder: Path) -> list[np.ndarray]:
    """The leaves of the newest checkpoint: step, parameters, state of the optimizer."""
    higher = workdir.read_config(folder)["higher_is_better"]
    with checkpoint.open_checkpoints(folder / "checkpoints", higher, read_only=True) as checkpoints:
        newest = folder / "checkpoints" / str(checkpoints.latest_step())
    return [
        leaf
        for field in TrainState._fields
        if (newest / field).exists()  # a field without arrays is not written
        for leaf in jax.tree.leaves(checkpoint.load_arrays(newest, field))
    ]


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's ``metrics.jsonl``."""
    return read_json_lines(folder / "metrics.jsonl")


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs the ``main`` of an entry point in this process, with flags."""

    def run(module: ModuleType, *arguments: object) -> None:
        # How ml_collections loads a config file.
        warnings.filterwarnings("ignore", ".*load_module", DeprecationWarning)
        monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
        with flagsaver.flagsaver():
            module.main(program.parse(sys.argv))

    return run


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of ``waves.py`` that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    status, errors = finish(start_waves(folder))
    assert status == 0, errors
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the tests of that run into one process, which makes it once."""
    for item in items:
        if "undisturbed" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("undisturbed"))
