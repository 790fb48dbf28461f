"""What the wheel installs is one package, which trains, evaluates and restores without the rest."""

import configparser
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.quick import QUICK

ROOT = Path(__file__).parents[2]
# Reports what was imported under two names, the program itself among it.
ONCE = """
import collections, os, runpy, sys
name, *arguments = sys.argv[1:]
sys.argv = [name, *arguments]
try:
    runpy.run_module(name, run_name="__main__", alter_sys=True)
except SystemExit as stopped:
    print(stopped, file=sys.stderr)
assert name not in sys.modules
files = [getattr(module, "__file__", None) for module in sys.modules.values()]
count = collections.Counter(os.path.realpath(file) for file in files if file)
print([file for file, times in count.items() if times > 1 and "meta" in file])
print(sorted({each.partition(".")[0] for each in sys.modules} & {"experiments", "benchmarks"}))
"""


def sources() -> set[str]:
    """The modules that a wheel is to hold, by their paths in it."""
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "jaxmeta").rglob("*.py")}
    beside = (path.relative_to(ROOT) for path in (ROOT / "experiments").rglob("*.py"))
    return ours | {f"jaxmeta/{path}" for path in beside}


def test_every_package_is_listed() -> None:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    listed = parser["options"]["packages"].split()
    assert listed == sorted({Path(path).parent.as_posix().replace("/", ".") for path in sources()})


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of a copy, so that nothing an earlier build left gets in."""
    copy = tmp_path_factory.mktemp("wheel")
    for name in ("jaxmeta", "experiments", "benchmarks"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", str(copy)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = (copy / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed wheel and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile"]
    done = subprocess.run(
        [*install, "--target", str(folder), str(wheel)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


def python(site: Path | None, cwd: Path, *arguments: object) -> str:
    """Runs Python on an installed wheel, with no editable installation; else in the repository."""
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICK}
    command = [sys.executable]
    if site is not None:
        # Without `site`, which would read the link to the repository; what we need lies there too.
        command.append("-S")
        env["PYTHONPATH"] = os.pathsep.join([str(site), sysconfig.get_path("purelib")])
    done = subprocess.run(
        [*command, *map(str, arguments)], cwd=cwd, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_holds_one_package_and_all_of_it(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert [top for top in tops if not top.endswith(".dist-info")] == ["jaxmeta"]
    assert {name for name in names if name.endswith(".py")} == sources()
    assert "jaxmeta/py.typed" in names


@pytest.mark.slow
def test_a_run_from_the_wheel_in_an_empty_folder(site: Path, tmp_path: Path) -> None:
    steps = ["steps=4", "log_every=2", "evaluation.every=2", "evaluation.episodes=8"]
    fields = [f"--config.{field}" for field in [*steps, "evaluation.validation_episodes=8"]]
    train = ["-m", "jaxmeta.experiments.train", "--config=quickstart", "--workdir=run"]
    result = json.loads(python(site, tmp_path, *train, *fields))
    assert result["evaluations"]["trained"]["metrics"]["accuracy"]["mean"] > 1 / 5
    again = json.loads(python(site, tmp_path, site / "bin" / "jaxmeta-evaluate", "--workdir=run"))
    assert again == result
    restored = python(
        site,
        tmp_path,
        "-c",
        "import jaxmeta; from jaxmeta.runs import restore; print(jaxmeta.__file__);"
        "print(sorted(restore('run').params))",
    )
    assert restored.splitlines() == [str(site / "jaxmeta" / "__init__.py"), "['hyper', 'model']"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("train", ["--config=glyphs:ridge"]),
        ("evaluate", ["--data=glyphs:ridge", "--workdir=nowhere"]),
        ("probe", ["--workdirs=nowhere"]),
        ("cluster", ["--workdir=nowhere"]),
        ("compare", ["--data=glyphs", "--shots=none"]),
    ],
)
def test_nothing_is_imported_twice(program: str, arguments: list[str], site: Path) -> None:
    in_wheel = python(site, site, "-c", ONCE, f"jaxmeta.experiments.{program}", *arguments)
    assert in_wheel.splitlines() == ["[]", "[]"]
    here = python(None, ROOT, "-c", ONCE, f"experiments.{program}", *arguments)
    assert here.splitlines() == ["[]", "['experiments']"]
