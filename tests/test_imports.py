"""Imports go one way, and importing the library is light."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# A module may import from rooms before its own, never from later ones.
ROOMS = (
    ("types", "checks", "keys", "distributed", "distributed.varying"),
    ("losses",),
    ("blocking_losses", "nn", "inner", "diagnostics", "runs.spec"),
    ("distributed.memory", "distributed.processes"),
    ("distributed.microbatches",),
    ("distributed.parallel",),
    ("data",),
    ("learners.frames",),
    ("learners",),
    ("objectives", "gradients", "probes"),
    ("pretraining", "domains"),
    ("multitask",),
    ("train", "evaluate", "runs.checkpoint", "runs.shapes", "runs.config_checks"),
    ("runs.config",),
    ("runs.workdir",),
    ("runs",),
)
RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}


def room_of(module):
    """The room of a dotted name below ``jaxmeta``, the innermost that is listed."""
    parts = module.split(".")
    rooms = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
    return next((room for room in rooms if room in RANK), None)


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


MODULES = sorted((ROOT / "jaxmeta").rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    module = ".".join(path.relative_to(ROOT / "jaxmeta").with_suffix("").parts)
    if module == "__init__":
        return
    room = room_of(module.removesuffix(".__init__"))
    assert room, f"say in ROOMS where jaxmeta.{module} belongs"
    for name in imported(path):
        assert name.partition(".")[0] != "experiments", f"{path} imports {name}"
        other = room_of(name.removeprefix("jaxmeta.")) if name.startswith("jaxmeta.") else None
        if other:
            assert RANK[other] <= RANK[room], f"{path} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_thing_is_known_in_one_place(path):
    names = set(imported(path))
    room = path.stem
    assert not {name for name in names if name.startswith(("absl", "ml_collections"))}
    if room != "tfds":
        assert not {name for name in names if name.startswith(("tensorflow", "tfds"))}
    if room != "streaming":
        assert not {name for name in names if name.startswith("grain")}
    if room != "parallel":
        assert "pmap" not in path.read_text()


def test_importing_takes_no_tensorflow_and_no_data():
    script = (
        "import sys, jax, flax; before = set(sys.modules); import jaxmeta, jaxmeta.data;"
        "new = {name.split('.')[0] for name in set(sys.modules) - before};"
        "known = {'tensorflow', 'tensorflow_datasets', 'grain', 'matplotlib', 'orbax', 'absl'};"
        "heavy = new & known;"
        "sys.exit(f'imports {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
