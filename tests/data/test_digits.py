"""MNIST, USPS and MNIST-M, on the real files and on small ones made here."""

import gzip
import io
import shutil
import zipfile

import jax
import numpy as np
import pytest
from PIL import Image

from jaxmeta.data import mnist, mnist_m, usps

# Of the digits 0 to 9 in the official parts.
MNIST = (
    [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
)
USPS = (
    [1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644],
    [359, 264, 198, 166, 200, 160, 170, 147, 166, 177],
)
PARTS = ("train", "valid", "test")


@pytest.fixture(scope="module")
def real(data_dir):
    return {"mnist": mnist(data_dir=data_dir), "mnist_m": mnist_m(data_dir=data_dir)}


def pixels(source):
    return np.asarray(source.data.examples)


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def digits(count=100, side=28):
    """Images, and labels 0 to 9 in turn; the first pixel numbers the images."""
    images = np.random.RandomState(0).randint(0, 256, (count, side, side))
    images[:, : side // 2] = 0
    images[:, 0, 0] = np.arange(count)
    return images, np.arange(count) % 10


def write(root, name, images, labels, compress=True):
    (root / name).mkdir(exist_ok=True)
    for part in ("train", "t10k"):
        for kind, array in {"images-idx3": images, "labels-idx1": labels}.items():
            path = root / name / f"{part}-{kind}-ubyte"
            if compress:
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(idx(array)))
            else:
                path.write_bytes(idx(array))


def photographs(root, images):
    """Photographs that JPEG keeps nearly as they are, in a zip."""
    (root / "bsds500").mkdir()
    with zipfile.ZipFile(root / "bsds500" / "photographs.zip", "w") as archive:
        for number, image in enumerate(images):
            stream = io.BytesIO()
            Image.fromarray(image).save(stream, "JPEG", quality=100, subsampling=0)
            archive.writestr(f"images/train/{number}.jpg", stream.getvalue())
        archive.writestr("images/test/0.jpg", b"is not read")
        archive.writestr("__MACOSX/train/._0.jpg", b"nor is this")


def flat(levels, shape=(30, 40)):
    return [np.full((*shape, 3), level, np.uint8) for level in levels]


@pytest.mark.parametrize("domain", ["mnist", "mnist_m"])
def test_the_counts_of_mnist_and_its_photographs_are_the_official_ones(domain, real):
    counts = {part: real[domain][part].data.counts for part in PARTS}
    assert (counts["train"] + counts["valid"]).tolist() == MNIST[0]
    assert counts["valid"].tolist() == [count // 10 for count in MNIST[0]]
    assert counts["test"].tolist() == MNIST[1]
    source = real[domain]["test"]
    batch = jax.jit(source.batches(16))(source.data, jax.random.key(0))
    assert batch.x.shape == (16, 28, 28, 1 if domain == "mnist" else 3)
    assert 0 <= batch.x.min() < batch.x.max() <= 1


def test_usps_is_what_the_centroid_classifier_knows(data_dir):
    sources = usps(size=16, data_dir=data_dir)
    counts = {part: np.asarray(source.data.counts) for part, source in sources.items()}
    assert (counts["train"] + counts["valid"]).tolist() == USPS[0]
    assert counts["test"].tolist() == USPS[1]
    x = {part: pixels(source).reshape(-1, 256) / 255 for part, source in sources.items()}
    y = {part: np.repeat(np.arange(10), counts[part]) for part in PARTS}
    both = [np.concatenate([each["train"], each["valid"]]) for each in (x, y)]
    means = np.stack([both[0][both[1] == digit].mean(axis=0) for digit in range(10)])
    distances = ((x["test"][:, None] - means) ** 2).sum(axis=-1)
    assert np.mean(distances.argmin(axis=1) == y["test"]) == pytest.approx(0.814, abs=5e-4)


def test_an_image_of_mnist_m_is_a_crop_of_a_photograph_inverted_where_the_digit_is(real, data_dir):
    def codes(image):
        return image.astype(np.int32) @ np.array([1, 256, 65536], np.int32)

    with zipfile.ZipFile(data_dir / "bsds500" / "train_q80.zip") as archive:
        files = [io.BytesIO(archive.read(name)) for name in archive.namelist()]
    photos = [codes(np.asarray(Image.open(file))) for file in files]

    def is_crop(patch, photo):
        rows, columns = photo.shape[0] - 27, photo.shape[1] - 27
        starts = photo[:rows, :columns] == patch[0, 0]
        return any(
            np.array_equal(photo[row : row + 28, column : column + 28], patch)
            for row, column in np.argwhere(starts & (photo[27:, 27:] == patch[27, 27]))
        )

    for part, row in {"train": 50_000, "valid": 7, "test": 9_999}.items():
        digit, image = (pixels(real[domain][part])[row] for domain in ("mnist", "mnist_m"))
        patch = codes(np.where(digit > 0, 255 - image, image))
        assert sum(is_crop(patch, photo) for photo in photos) == 1


def test_where_the_digit_is_0_the_photograph_is_untouched(tmp_path):
    images, labels = digits()
    write(tmp_path, "mnist", images, labels)
    photographs(tmp_path, flat([100]))
    gray, blended = mnist(data_dir=tmp_path), mnist_m(data_dir=tmp_path)
    for part in PARTS:
        expected = np.where(pixels(gray[part]) > 0, 155, 100)
        np.testing.assert_array_equal(pixels(blended[part]), np.repeat(expected, 3, axis=-1))


def test_a_seed_means_the_same_photographs_forever(tmp_path):
    images, labels = digits()
    write(tmp_path, "mnist", 0 * images, labels)
    photographs(tmp_path, flat([0, 50, 100, 150, 200]))

    def drawn(seed):
        sources = mnist_m(seed, data_dir=tmp_path)
        return {part: pixels(source)[:, 0, 0, 0] // 50 for part, source in sources.items()}

    first = drawn(0)
    assert first["train"][:9].tolist() == [0, 3, 4, 1, 4, 2, 3, 0, 1]
    assert first["test"][:10].tolist() == [0, 1, 1, 0, 1, 3, 0, 1, 4, 0], "a stream of its own"
    jax.tree.map(np.testing.assert_array_equal, first, drawn(0))
    assert all((first[part] != each).any() for part, each in drawn(1).items())
    assert set(np.concatenate([*first.values()]).tolist()) == set(range(5))


def test_crops_are_whole_and_from_everywhere(tmp_path):
    images, labels = digits(count=200)
    write(tmp_path, "mnist", 0 * images, labels)
    # JPEG changes colors by up to 2.
    row, column = np.meshgrid(np.arange(31), np.arange(40), indexing="ij")
    photographs(tmp_path, [np.stack([8 * row, 6 * column, 0 * row], -1).astype(np.uint8)])
    colors = pixels(mnist_m(data_dir=tmp_path)["test"])[..., :2]
    found = np.rint(colors / np.array([8, 6])).astype(int)
    first = found[:, :1, :1]
    places = np.stack([row, column], axis=-1)[:28, :28]
    np.testing.assert_array_equal(found - first, np.broadcast_to(places, found.shape))
    assert set(first[..., 0].flat) == set(range(31 - 28 + 1))
    assert set(first[..., 1].flat) == set(range(40 - 28 + 1))


@pytest.mark.parametrize("compress", [True, False], ids=["gz", "plain"])
def test_the_last_tenth_of_each_digit_is_for_validation(compress, tmp_path):
    images, labels = digits(count=119)  # 12 of each digit, but 11 nines
    write(tmp_path, "usps", images, labels, compress)
    numbers = {part: pixels(each)[:, 0, 0, 0] for part, each in usps(data_dir=tmp_path).items()}
    rows = [np.arange(digit, 119, 10) for digit in range(10)]
    assert numbers["train"].tolist() == np.concatenate([each[:-1] for each in rows]).tolist()
    assert numbers["valid"].tolist() == [each[-1] for each in rows]
    assert numbers["test"].tolist() == np.concatenate(rows).tolist()


@pytest.mark.parametrize("size", [28, 20, 7])
def test_images_are_resized_as_pillow_resizes_each(size, tmp_path):
    images, labels = digits(side=16)
    write(tmp_path, "usps", images, labels)
    found = pixels(usps(channels=3, size=size, data_dir=tmp_path)["test"])
    order = np.argsort(labels, kind="stable")
    for image, each in zip(images[order], found, strict=True):
        alone = Image.fromarray(image.astype(np.uint8)).resize((size, size), Image.BILINEAR)
        np.testing.assert_array_equal(each, np.asarray(alone)[..., None].repeat(3, -1))


def test_photographs_in_folders_are_those_of_the_zip_and_colors_are_resized(tmp_path):
    write(tmp_path, "mnist", *digits())
    photos = np.random.RandomState(0).randint(0, 256, (3, 40, 30, 3)).astype(np.uint8)
    photographs(tmp_path, photos)
    full, small = mnist_m(data_dir=tmp_path)["test"], mnist_m(size=14, data_dir=tmp_path)["test"]
    alone = Image.fromarray(pixels(full)[42]).resize((14, 14), Image.BILINEAR)
    np.testing.assert_array_equal(pixels(small)[42], np.asarray(alone))
    with zipfile.ZipFile(tmp_path / "bsds500" / "photographs.zip") as archive:
        archive.extractall(tmp_path / "bsds500" / "data")
    (tmp_path / "bsds500" / "photographs.zip").unlink()
    unpacked = mnist_m(data_dir=tmp_path)["test"]
    np.testing.assert_array_equal(pixels(unpacked), pixels(full))


def test_bad_arguments_are_told(tmp_path):
    for function in (mnist, usps, mnist_m):
        with pytest.raises(ValueError, match="size is 0: give a whole number, 1 or more"):
            function(size=0, data_dir=tmp_path)
    with pytest.raises(ValueError, match="channels is 2: give 1 or 3"):
        usps(channels=2, data_dir=tmp_path)
    with pytest.raises(ValueError, match="seed is -1: give a whole number, 0 or more"):
        mnist_m(seed=-1, data_dir=tmp_path)


def test_missing_files_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="MNIST is not there: set --data_dir or JAXMETA_"):
        mnist()
    with pytest.raises(FileNotFoundError, match=r"USPS is not there: .* that holds usps/ with"):
        usps(data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match="The photographs of MNIST-M are not there: set"):
        mnist_m(data_dir=tmp_path)
    photographs(tmp_path, [])
    with pytest.raises(FileNotFoundError, match="MNIST is not there"):
        mnist_m(data_dir=tmp_path)
    write(tmp_path, "mnist", *digits())
    with pytest.raises(FileNotFoundError, match=r"bsds500 holds no training photograph: put a zip"):
        mnist_m(data_dir=tmp_path)
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"There is no t10k-labels-idx1-ubyte\.gz in"):
        mnist(data_dir=tmp_path)


def test_broken_files_are_told(tmp_path):
    images, labels = digits()
    write(tmp_path, "mnist", images, labels)
    path = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for broken in (whole[:-100], b"<html>"):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"ubyte\.gz cannot be unpacked \(.*\): fetch it"):
            mnist(data_dir=tmp_path)
    for broken in (b"", b"<html>", idx(images)[:-1], idx(labels)):
        path.write_bytes(gzip.compress(broken))
        with pytest.raises(ValueError, match=r"ubyte\.gz is not an IDX file of bytes with 3 axes"):
            mnist(data_dir=tmp_path)
    write(tmp_path, "mnist", images, labels[:-1])
    with pytest.raises(ValueError, match="has 100 images and 99 labels of the part 'train'"):
        mnist(data_dir=tmp_path)
    write(tmp_path, "mnist", images, labels + 1)
    with pytest.raises(ValueError, match="has the label 10 in the part 'train': give labels 0"):
        mnist(data_dir=tmp_path)


def test_broken_photographs_are_told(tmp_path):
    write(tmp_path, "mnist", *digits())
    photographs(tmp_path, flat([1], shape=(27, 40)))
    with pytest.raises(ValueError, match=r"The photograph 0\.jpg in .* is 40 x 27 pixels: give on"):
        mnist_m(data_dir=tmp_path)
    (tmp_path / "bsds500" / "photographs.zip").write_bytes(b"<html>")
    with pytest.raises(ValueError, match=r"photographs\.zip cannot be read \(.*\): fetch it again"):
        mnist_m(data_dir=tmp_path)
    shutil.rmtree(tmp_path / "bsds500")
    (tmp_path / "bsds500" / "train").mkdir(parents=True)
    (tmp_path / "bsds500" / "train" / "0.jpg").write_bytes(b"<html>")
    with pytest.raises(ValueError, match=r"The photograph 0\.jpg in .* cannot be read \(.*\): fet"):
        mnist_m(data_dir=tmp_path)
