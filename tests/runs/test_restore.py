"""What restoring a run's folder gives back, what it reads for that, and what it refuses to run."""

import shutil
import sys

import jax
import numpy as np
import pytest

from jaxmeta.data import make_batch
from jaxmeta.runs import restore
from jaxmeta.runs.workdir import load_trained
from tests.runs.conftest import CONFIG, edit_config


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained[0], tmp_path / "run")


def assert_best(restored, trained):
    jax.tree.map(np.testing.assert_array_equal, restored.params, trained[1][2].params)


def test_the_best_checkpoint_and_what_the_last_one_tells(trained):
    restored, info = load_trained(trained[0])
    assert_best(restored, trained)
    assert info == {"train_seconds": 3, "best_step": 2, "step": 2}


def test_the_last_checkpoint(trained):
    restored, info = load_trained(trained[0], checkpoint="last")
    assert (info["best_step"], info["step"]) == (2, 3)
    jax.tree.map(np.testing.assert_array_equal, restored.params, trained[1][3].params)
    with pytest.raises(ValueError, match="checkpoint is 'newest': give best or last"):
        load_trained(trained[0], checkpoint="newest")


def test_no_command_of_a_config_is_run(folder, tmp_path):
    marker = tmp_path / "marker"
    command = {"make": "os.system", "command": f"touch {marker}"}
    through_ours = {"make": "jaxmeta.data.images.os.system", "command": f"touch {marker}"}
    ours = {"make": "jaxmeta.runs.workdir.write_atomically", "path": str(marker), "text": ""}
    for fields in (
        {"model": command},
        {"model": {"make": "subprocess.run", "args": ["touch", str(marker)]}},
        {"model": through_ours},
        {"model": ours},
        {"model": {**CONFIG["model"], "outputs": command}},
        {"learner": {**CONFIG["learner"], "loss": {"function": "os.system"}}},
        {"evaluations": {"trained": {"learner": command}}},
        {"loss": command},
        {"metrics": {"error": command}},
        {"objective": command},
        {"optimizer": command},
    ):
        edit_config(folder, **{**CONFIG, **fields})
        if "optimizer" in fields:
            restore(folder)
        else:
            with pytest.raises(ValueError, match=r"not trusted|not a public function"):
                restore(folder)
        assert not marker.exists()


@pytest.fixture
def package(tmp_path, monkeypatch):
    (tmp_path / "mine_of_restore.py").write_text(
        "from jaxmeta import nn\n\ndef net(outputs, hidden):\n    return nn.mlp(outputs, hidden)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "mine_of_restore"
    sys.modules.pop("mine_of_restore", None)


def test_a_package_is_used_if_it_is_trusted(folder, package, trained):
    edit_config(folder, model={**CONFIG["model"], "make": f"{package}.net"})
    with pytest.raises(ValueError, match=rf"'{package}.net' .*trust=\('{package}',\)"):
        restore(folder)
    assert package not in sys.modules
    assert_best(restore(folder, trust=(package,)), trained)
    assert package in sys.modules


def test_the_optimizer_is_neither_imported_nor_read(folder, package, trained):
    edit_config(folder, optimizer={"make": f"{package}.gone", "learning_rate": 1.0})
    for item in folder.glob("checkpoints/*/optimizer"):
        shutil.rmtree(item)
    assert_best(restore(folder, trust=(package,)), trained)
    assert package not in sys.modules


def test_a_folder_is_left_as_it_is(folder, trained):
    writing = folder / "checkpoints" / "4.orbax-checkpoint-tmp"  # by a process that still runs
    shutil.copytree(folder / "checkpoints" / "3", writing)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert_best(restore(folder), trained)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_other_arguments_of_the_learner(trained):
    batch, steps = make_batch(np.ones((3, 1), np.float32), np.zeros((3, 1), np.float32)), []
    for changes in ({}, {"steps": 2}):
        learner, params, state = restore(trained[0], **changes)
        metrics = jax.eval_shape(learner.adapt, params, state, batch, jax.random.key(0))[1]
        steps.append(metrics["support_loss"].shape)
    assert steps == [(1,), (2,)]
