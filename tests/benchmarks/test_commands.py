"""Processes, and whole runs of the entry points as a user starts them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.problem import Problem
from benchmarks.workers import Failure, Worker, in_own_process
from tests.quick import QUICK

ROOT = Path(__file__).parents[2]
SMALL = ("--filters=2", "--queries=1", "--image_size=16", "--ways=2")


def start(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICK},
        capture_output=True,
        text=True,
        timeout=300,
    )


def rows(done: subprocess.CompletedProcess[str]) -> list[dict]:
    """The lines of JSON, having checked that a table follows them."""
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    found = [json.loads(line) for line in lines if line.startswith("{")]
    assert sum(line.startswith("| ") for line in lines) == len(found) + 2
    return found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks=0"], "Error: tasks is 0: give 1 or more.\n"),
        (["--image_size=8"], "Error: image_size is 8: give 16 or more.\n"),
        (["--against=torch"], "Error: maml on conv4 has no implementation 'torch': choose from "),
        (["--taks=3"], "Error: Unknown command line flag 'taks'. Did you mean: tasks"),
        (["quick"], "Error: 'quick' is not a flag: see --help for those there are.\n"),
    ],
)
def test_a_mistake_ends_in_one_sentence(arguments: list[str], message: str):
    done = start("meta_step", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_integers_are_asked_for():
    done = start("memory", "--inner_steps=1,x")
    assert (
        done.stderr == "Error: --inner_steps is '1,x': give integers from 0 with commas between.\n"
    )


def test_what_a_process_cannot_do_is_told():
    with pytest.raises(Failure, match="the package nowhere is not installed"):
        in_own_process("nowhere:nothing")
    with pytest.raises(Failure, match="ValueError: tasks is 0"):
        Worker("benchmarks.problem:Problem").call("__class__", *("maml", "conv4", 5, 1, 15, 0))
    with pytest.raises(Failure, match=r"its process died \(exit status 3\)"):
        in_own_process("os:_exit", 3)


@pytest.mark.parametrize(
    "module",
    [
        "meta_step",
        "sinusoid",
        "memory",
        "chunks",
        "episodes",
        "streaming",
        "compile",
        "scaling",
        "simclr_step",
        "pcgrad_step",
    ],
)
def test_entry_points_import_no_library(module: str):
    code = (
        f"import sys, benchmarks.{module};"
        "sys.exit(', '.join({'jax', 'torch', 'jaxmeta'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_process_answers():
    assert in_own_process("benchmarks.problem:make_data", Problem()).query_y.shape == (8, 75)


@pytest.mark.slow
def test_meta_step():
    against = "--against=torchopt,xla_convolution"
    options = ("--tasks=1", "--inner_steps=1", "--repetitions=2", against)
    found = rows(start("meta_step", *SMALL, *options))
    assert found[0]["name"] == "jaxmeta"
    assert found[0]["gradient_difference"] == 0
    assert found[-1]["name"] == "xla_convolution"
    for row in found:
        assert "skipped" in row or row["min_ms"] <= row["median_ms"] <= row["max_ms"]
        assert "skipped" in row or row["baseline_memory_mib"] <= row["peak_memory_mib"]


@pytest.mark.slow
def test_sinusoid():
    found = rows(start("sinusoid", "--tasks=2", "--repetitions=1"))
    assert "xla_convolution" not in {row["name"] for row in found}


@pytest.mark.slow
def test_memory():
    ways = "--differentiation=mixed,reverse"
    options = ("--tasks=1", "--inner_steps=3,1", "--repetitions=1", ways)
    found = rows(start("memory", *SMALL, *options))
    assert [row["inner_steps"] for row in found] == [1, 3, 1, 3]
    assert [row["ms_per_further_step"] is None for row in found] == [True, False] * 2
    assert found[1]["temporary_mib"] < found[3]["temporary_mib"]


@pytest.mark.slow
def test_chunks():
    options = ("--tasks=4", "--inner_steps=1", "--chunk=1,4", "--repetitions=1")
    found = rows(start("chunks", *SMALL, *options))
    assert [row["name"] for row in found] == ["1", "4", "automatic"]
    assert [row["tasks_at_a_time"] for row in found] == [1, 4, 4]


@pytest.mark.slow
def test_episodes(data_dir: Path):
    options = ("--tasks=2", "--inner_steps=1", "--repetitions=1", f"--data_dir={data_dir}")
    found = rows(start("episodes", *SMALL, *options))
    assert [row["name"] for row in found] == ["sample", "meta_step"]
    assert sum(row["share"] for row in found) == pytest.approx(1)


@pytest.mark.slow
def test_simclr_step():
    found = rows(start("simclr_step", "--size=4", "--image_size=16", "--repetitions=1"))
    names = {row["name"]: "skipped" in row for row in found}
    assert names.keys() == {"jaxmeta", "augmented", "torch"}
    assert not names["jaxmeta"]
    assert not names["augmented"]


@pytest.mark.slow
def test_pcgrad_step():
    small = ("--tasks=3", "--size=2", "--image_size=16", "--repetitions=1")
    names = {row["name"]: "skipped" in row for row in rows(start("pcgrad_step", *small))}
    assert names.keys() == {"jaxmeta", "unprojected", "torch"}
    assert not names["jaxmeta"]
    assert not names["unprojected"]


@pytest.mark.slow
def test_compile():
    (row,) = rows(start("compile", *SMALL, "--tasks=1", "--inner_steps=1"))
    assert (row["cold_hits"], row["cold_misses"]) == (0, 1)
    # Some processors make XLA refuse its own cache: it must be told, whichever it is.
    assert row["warm_hits"] + row["warm_misses"] == 1
