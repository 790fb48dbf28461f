import io
import json
import shutil
import zipfile

import jax
import numpy as np
import pytest
from PIL import Image

from jaxmeta.data import cifar, cifar_fs, fc100
from jaxmeta.data.classes import canonical
from jaxmeta.data.images import load_images

PARTS = {"train": "train", "valid": "val", "test": "test"}


@pytest.fixture
def splits(data_dir):
    return json.loads((data_dir / "cifar100/splits.json").read_text())


def test_tables_are_those_of_the_data(splits):
    assert {c: names.split() for c, names in cifar.COARSE.items()} == splits["coarse"]
    for part, theirs in PARTS.items():
        assert cifar.CIFAR_FS[part].split() == splits["cifar_fs"][theirs]
        assert cifar.FC100[part].split() == splits["fc100_coarse"][theirs]


def test_parts_are_disjoint_and_complete():
    classes = sorted(name for names in cifar.COARSE.values() for name in names.split())
    assert len(set(classes)) == 100
    fs = {part: names.split() for part, names in cifar.CIFAR_FS.items()}
    for split, sizes in [(fs, (64, 16, 20)), (cifar.fc100_classes(), (60, 20, 20))]:
        assert tuple(len(split[part]) for part in PARTS) == sizes
        assert sorted(name for names in split.values() for name in names) == classes


def test_the_two_halves_of_a_class_become_one(data_dir):
    path = data_dir / "cifar100/cifar_fs_val.zip"
    data = canonical(load_images(path, 32), lambda name: name.split("/")[0])
    assert data.names == tuple(cifar.CIFAR_FS["valid"].split())
    assert data.counts.tolist() == [600] * 16
    with zipfile.ZipFile(path) as archive:
        members = [name for name in archive.namelist() if name.startswith("camel/")]
        camels = [np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in members]
    first = 600 * data.names.index("camel")
    found = sorted(image.tobytes() for image in data.images[first : first + 600])
    assert found == sorted(image.tobytes() for image in camels)


def test_unpacked_folders_are_read_like_zips(tmp_path):
    colors = {}
    for number, name in enumerate(" ".join(cifar.COARSE.values()).split()):
        for half in ("train", "test"):
            path = tmp_path / f"cifar100/{name}/{half}/0.webp"
            path.parent.mkdir(parents=True)
            Image.new("RGB", (2, 2), (2 * number,) * 3).save(path, lossless=True)
        colors[name] = 2 * number
    for split, sources in [
        ({part: names.split() for part, names in cifar.CIFAR_FS.items()}, cifar_fs(2, tmp_path)),
        (cifar.fc100_classes(), fc100(2, tmp_path)),
    ]:
        for part, source in sources.items():
            assert source.data.counts.tolist() == [2] * len(split[part])
            expected = np.repeat([colors[name] for name in split[part]], 2)
            assert source.data.examples[:, 0, 0, 0].tolist() == expected.tolist()
    shutil.rmtree(tmp_path / "cifar100/apple")
    with pytest.raises(ValueError, match="no class 'apple'"):
        cifar_fs(2, tmp_path)


@pytest.mark.slow
def test_sources_hold_600_images_a_class(data_dir):
    for sources, sizes in [
        (cifar_fs(32, data_dir), (64, 16, 20)),
        (fc100(32, data_dir), (60, 20, 20)),
    ]:
        assert tuple(len(sources[part].data.counts) for part in PARTS) == sizes
        assert all(np.all(source.data.counts == 600) for source in sources.values())
        source = sources["test"]
        episode = jax.jit(source.episodes(5, 5, 15))(source.data, jax.random.key(0))
        assert episode.query.x.shape == (75, 32, 32, 3)
