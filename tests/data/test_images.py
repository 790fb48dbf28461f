import os
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import ExifTags, Image

from jaxmeta.data import classes, folder, images, load_images


def pixels(seed, shape=(6, 6, 3)):
    return np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def pack(source: Path, path: Path, inside: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(source.rglob("*"), reverse=True):
            if file.is_file():
                archive.write(file, inside + file.relative_to(source).as_posix())
    return path


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXMETA_CACHE_DIR", str(tmp_path / "cache"))
    root = tmp_path / "pictures"
    write(root / "Greek/alpha/b.png", pixels(1))
    write(root / "Greek/alpha/a.png", pixels(0))
    write(root / "Greek/beta/a.png", pixels(2))
    write(root / "dots/x.bmp", pixels(3))
    write(root / "dots/.hidden.png", pixels(4))
    (root / "dots/notes.txt").write_text("not an image")
    return root


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_classes_are_the_folders_that_hold_images(pictures):
    data = load_images(pictures, 6)
    assert data.names == ("Greek/alpha", "Greek/beta", "dots")
    assert data.counts.tolist() == [2, 1, 1]
    assert np.array_equal(data.images, np.stack([pixels(seed) for seed in range(4)]))


def test_an_outermost_folder_does_not_count(pictures, tmp_path):
    inner = load_images(pictures, 6)
    (tmp_path / "outer").mkdir()
    pictures.rename(tmp_path / "outer/pictures")
    assert same(load_images(tmp_path / "outer", 6), inner)


@pytest.mark.parametrize("inside", ["", "wrapped/"])
def test_a_zip_is_read_like_its_folder(pictures, tmp_path, inside):
    archive = pack(pictures, tmp_path / "pictures.zip", inside)
    assert same(load_images(archive, 6), load_images(pictures, 6))


def test_size_grayscale_and_invert(pictures, tmp_path):
    flat = np.zeros((10, 4, 3), np.uint8) + np.array([10, 20, 200], np.uint8)
    write(tmp_path / "flat/only/a.png", flat)
    assert np.all(load_images(tmp_path / "flat", 5).images == [10, 20, 200])
    gray = load_images(tmp_path / "flat", 5, grayscale=True).images
    assert gray.shape == (1, 5, 5, 1)
    # The luma of ITU-R 601, which Pillow rounds.
    assert np.all(abs(gray - (0.299 * 10 + 0.587 * 20 + 0.114 * 200)) <= 1)
    assert np.all(load_images(tmp_path / "flat", 5, True, invert=True).images == 255 - gray)


def test_one_bit_images_are_shrunk_to_shades_of_gray(tmp_path):
    halves = np.zeros((8, 8), bool)
    halves[:, 3:] = True
    (tmp_path / "bits/only").mkdir(parents=True)
    Image.fromarray(halves).save(tmp_path / "bits/only/a.png")
    image = load_images(tmp_path / "bits", 4, grayscale=True).images[0, :, :, 0]
    assert np.all((image[:, 1] > 50) & (image[:, 1] < 200))
    assert np.all(image[:, 3] > 240)
    assert np.all(image[:, 0] < 15)


def save(path: Path, image: Image.Image, **options: object) -> None:
    path.parent.mkdir(parents=True)
    image.save(path, **options)


def test_sixteen_bits_keep_the_upper_eight(tmp_path):
    levels = np.array([[0, 300], [40_000, 65_535]], np.uint16)
    save(tmp_path / "deep/only/a.png", Image.fromarray(levels))
    assert load_images(tmp_path / "deep", 2, True).images[0, ..., 0].tolist() == [
        [0, 1],
        [156, 255],
    ]
    assert load_images(tmp_path / "deep", 2).images[0, 1, 0].tolist() == [156] * 3


def test_transparent_images_are_laid_on_white(tmp_path):
    ink = np.zeros((2, 2, 4), np.uint8)  # black, and transparent but for one pixel
    ink[0, 0, 3] = 255
    save(tmp_path / "ink/only/a.png", Image.fromarray(ink))
    palette = Image.fromarray(np.array([[0, 1], [1, 1]], np.uint8)).convert("P")
    save(tmp_path / "ink/other/a.png", palette, transparency=1)
    for image in load_images(tmp_path / "ink", 2, grayscale=True).images[..., 0]:
        assert image.tolist() == [[0, 255], [255, 255]]


def test_photographs_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # held so that a quarter turn clockwise rights it
    save(tmp_path / "turned/only/a.png", Image.fromarray(pixels(0)), exif=exif)
    assert np.array_equal(load_images(tmp_path / "turned", 6).images[0], np.rot90(pixels(0), -1))


def test_the_second_reading_decodes_nothing(pictures, monkeypatch):
    first = load_images(pictures, 6)
    monkeypatch.setattr(images, "_decode_all", None)
    assert same(load_images(pictures, 6), first)
    with pytest.raises(TypeError):
        load_images(pictures, 5)


def test_a_changed_file_is_read_again(pictures):
    load_images(pictures, 6)
    write(pictures / "dots/x.bmp", pixels(9))
    os.utime(pictures / "dots/x.bmp", (1, 1))
    assert np.array_equal(load_images(pictures, 6).images[3], pixels(9))


@pytest.mark.parametrize("keep", [0, 100, -30])
def test_a_broken_cache_is_made_anew(pictures, tmp_path, keep):
    first = load_images(pictures, 6)
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(file.read_bytes()[:keep])
    assert same(load_images(pictures, 6), first)
    assert [f.name for f in (tmp_path / "cache").iterdir()] == [file.name]
    with np.load(file) as stored:
        assert np.array_equal(stored["images"], first.images)


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize("keep", [0, 20, -40])
def test_a_truncated_image_is_named(pictures, tmp_path, as_zip, keep):
    broken = pictures / "Greek/beta/a.png"
    broken.write_bytes(broken.read_bytes()[:keep])
    path = pack(pictures, tmp_path / "pictures.zip") if as_zip else pictures
    with pytest.raises(ValueError, match=r"image Greek/beta/a.png in .*pictures.* cannot be read"):
        load_images(path, 6)


def test_what_is_no_folder_of_classes_is_refused(pictures, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder or zip at .*absent"):
        load_images(tmp_path / "absent", 6)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty holds no images \(.png"):
        load_images(tmp_path / "empty", 6)
    with pytest.raises(ValueError, match=r"dots holds the image x.bmp outside of any class folder"):
        load_images(pictures / "dots", 6)
    (tmp_path / "fake.zip").write_text("no zip")
    with pytest.raises(ValueError, match=r"fake.zip cannot be read as a zip"):
        load_images(tmp_path / "fake.zip", 6)


@pytest.mark.parametrize(("root", "valid"), [("set", "valid"), ("set", "val"), ("set/in", "valid")])
def test_folder_uses_the_split_that_is_there(tmp_path, root, valid):
    for number, part in enumerate(["train", "test", valid]):
        for c in range(number + 1):
            write(
                tmp_path / f"{root}/{part}/c{c}/a.png",
                np.full((2, 2, 3), 10 * number + c, np.uint8),
            )
    sources = folder(tmp_path / "set", size=2)
    found = {part: source.data.examples[:, 0, 0, 0].tolist() for part, source in sources.items()}
    assert found == {"train": [0], "test": [10, 11], "valid": [20, 21, 22]}


@pytest.mark.parametrize("absent", ["train", "valid", "test"])
def test_folder_mixes_no_split_that_lacks_a_part(tmp_path, absent):
    for part in {"train", "valid", "test"} - {absent}:
        for c in range(10):
            write(tmp_path / f"set/{part}/c{c}/a.png", pixels(c))
    with pytest.raises(ValueError, match=f"sub-folders train, valid and test but no {absent}; mov"):
        folder(tmp_path / "set", size=2)


def test_folder_splits_at_random_by_its_seed(tmp_path):
    for c in range(20):
        for i in range(2):
            write(tmp_path / f"set/c{c}/{i}.png", np.full((2, 2, 3), c, np.uint8))

    def classes(seed):
        sources = folder(tmp_path / "set", size=2, grayscale=True, seed=seed)
        return {k: sorted(set(s.data.examples[:, 0, 0, 0].tolist())) for k, s in sources.items()}

    split = classes(0)
    assert {part: len(found) for part, found in split.items()} == {
        "train": 10,
        "valid": 5,
        "test": 5,
    }
    assert sorted(c for part in split.values() for c in part) == list(range(20))
    assert classes(0) == split != classes(1)
    train = folder(tmp_path / "set", size=2, rotations=True)["train"]
    jax.eval_shape(train.episodes(40, 1, 1), train.data, jax.random.key(0))
    with pytest.raises(ValueError, match="of 20 classes leave none for valid"):
        folder(tmp_path / "set", size=2, fractions=(0.95, 0.02, 0.03))
    with pytest.raises(ValueError, match="must be positive and sum to 1"):
        folder(tmp_path / "set", size=2, fractions=(0.5, 0.2, 0.2))


def test_a_cache_that_cannot_be_written_only_costs_time(pictures, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("JAXMETA_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match="cannot be written"):
        data = load_images(pictures, 2)
    assert data.images.shape[0] == 4


def test_canonical_order_forgets_where_the_images_came_from():
    array = pixels(0, (6, 2, 2, 1))
    one = classes.ClassImages(array, np.array([2, 3, 1]), ("b/x", "a", "b/y"))
    order = [4, 2, 3, 5, 1, 0]
    other = classes.ClassImages(array[order], np.array([3, 1, 2]), ("a", "b/y", "b/x"))
    assert same(classes.canonical(one), classes.canonical(other))
    merged = classes.canonical(one, lambda name: name[0])
    assert merged.names == ("a", "b")
    assert merged.counts.tolist() == [3, 3]
    assert {i.tobytes() for i in merged.images[3:]} == {array[i].tobytes() for i in (0, 1, 5)}
