import importlib.util
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxmeta.data import cifar_fs, omniglot


def without(monkeypatch, *missing):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name in missing else find(name, *a)
    )


def test_importing_the_data_sets_imports_no_tensorflow():
    program = (
        "import sys, jaxmeta.data; "
        "sys.exit(any(m.split('.')[0].startswith('tensorflow') for m in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_zips_and_without_tfds_the_error_says_what_to_do(monkeypatch):
    without(monkeypatch, "tensorflow_datasets")
    with pytest.raises(
        ModuleNotFoundError, match=r"pip install .* or set --data_dir or JAXMETA_DATA"
    ):
        omniglot()
    with pytest.raises(ModuleNotFoundError, match="cifar100 is not on this machine"):
        cifar_fs()


@pytest.mark.filterwarnings("ignore")  # TensorFlow Datasets' own
def test_preparing_needs_packages_that_reading_does_not(monkeypatch, tmp_path):
    pytest.importorskip("tensorflow_datasets")
    without(monkeypatch, "tensorflow")
    with pytest.raises(ModuleNotFoundError, match="cannot prepare omniglot without tensorflow;"):
        omniglot(data_dir=tmp_path)


@pytest.fixture(scope="module")
def tfds_dir(data_dir, tmp_path_factory):
    """The real sets, where TFDS looks for what it has downloaded."""
    for module in ("tensorflow", "importlib_resources", "tensorflow_datasets"):
        pytest.importorskip(module)
    path = tmp_path_factory.mktemp("tfds")
    seed = [sys.executable, str(data_dir / "seed_tfds.py"), "--data_dir", str(path)]
    subprocess.run(seed, check=True)
    return path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # TensorFlow's and TensorFlow Datasets' own
@pytest.mark.parametrize("load", [omniglot, cifar_fs], ids=["omniglot", "cifar100"])
def test_tfds_gives_the_episodes_of_the_zips(data_dir, tfds_dir, monkeypatch, load):
    zips = load(data_dir=data_dir)
    monkeypatch.setenv("JAXMETA_CACHE_DIR", str(tfds_dir / "cache"))
    tfds = load(data_dir=tfds_dir)
    for part, source in zips.items():
        for ours, theirs in zip(source.data, tfds[part].data, strict=True):
            assert np.array_equal(ours, theirs)
    key = jax.random.key(0)
    one, other = (s["test"].episodes(5, 1, 3)(s["test"].data, key) for s in (zips, tfds))
    assert all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(other)))
    if load is omniglot:
        minimal = [load("background_small2", data_dir=d)["train"] for d in (data_dir, tfds_dir)]
        assert all(map(np.array_equal, minimal[0].data, minimal[1].data))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # TensorFlow's and TensorFlow Datasets' own
def test_streamed_from_tfds_is_in_memory_from_zips(data_dir, tfds_dir, tmp_path, monkeypatch):
    for split in ("characters", "background_small1"):
        zips = omniglot(split, data_dir=data_dir)
        with monkeypatch.context() as patch:
            patch.setenv("JAXMETA_CACHE_DIR", str(tfds_dir / "cache"))
            streamed = omniglot(split, data_dir=tfds_dir, streamed=True)
        for part, source in zips.items():
            assert all(map(np.array_equal, source.data[1:], streamed[part].data[1:]))
            rows = np.random.RandomState(0).permutation(len(source.data.examples))[:500]
            read = streamed[part].episodes(5, 1, 1).read(rows)
            assert np.array_equal(read, np.asarray(source.data.examples)[rows])
    # The second half of a shard is lost.
    shutil.copytree(tfds_dir / "omniglot", tmp_path / "omniglot")
    (shard,) = tmp_path.glob("omniglot/*/omniglot-test.array_record*")
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"Record \d+ of {shard}.* cannot be read \(RuntimeError"):
        omniglot(data_dir=tmp_path, streamed=True)
