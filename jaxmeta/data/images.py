"""Images in folders or zips of class folders, read once and cached as one array."""

import hashlib
import io
import os
import tempfile
import threading
import warnings
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from jaxmeta.checks import check_count
from jaxmeta.data.classes import ClassImages, random_split, take_classes
from jaxmeta.data.decode import rotated
from jaxmeta.data.episodes import class_source
from jaxmeta.types import Source

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
_FORMAT = 2  # part of the cache key; raise it when the pixels of a cached file would change


def load_images(
    path: str | os.PathLike[str], size: int, grayscale: bool = False, invert: bool = False
) -> ClassImages:
    """Reads a folder, or a zip, of class folders.

    The class of an image is the folder that holds it, at any depth, and the class's name is the
    path of that folder: ``Greek/character01``. One outermost folder around all others does not
    count. Classes and the images in them are ordered by name.

    Images are turned upright according to their EXIF data, transparent ones are placed on white,
    and 16-bit ones keep the upper 8 bits.

    The result is cached in ``$JAXMETA_CACHE_DIR`` (else ``$XDG_CACHE_HOME/jaxmeta``, else
    ``~/.cache/jaxmeta``) and made again if a file's name, size or time changes.

    Args:
      path: the folder or ``.zip``, with images in PNG, JPEG, WebP, BMP or GIF (its first frame).
      size: images are resized to ``size`` x ``size`` pixels with a Lanczos filter.
      grayscale: one channel instead of three.
      invert: swap black and white.

    Returns:
      The images, uint8 ``[n, size, size, 1 or 3]``, sorted by class.

    Raises:
      FileNotFoundError: there is nothing at ``path``.
      ValueError: ``size`` is not a positive integer, there is no image, or an image is outside any
        class folder or cannot be read.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from unittest import mock
    >>> from PIL import Image
    >>> with TemporaryDirectory() as root, mock.patch.dict("os.environ", JAXMETA_CACHE_DIR=root):
    ...     for name in ("ant", "bee"):
    ...         Path(root, "pets", name).mkdir(parents=True)
    ...         Image.new("RGB", (32, 32), "red").save(Path(root, "pets", name, "0.png"))
    ...     data = load_images(f"{root}/pets", size=8)
    >>> data.names, data.images.shape
    (('ant', 'bee'), (2, 8, 8, 3))
    """
    check_count("size", size, least=1)
    path = Path(path).expanduser().resolve()
    if not path.exists():
        raise FileNotFoundError(f"There is no folder or zip at {path}; check the path.")
    files, stamps = _list_zip(path) if path.is_file() else _list_folder(path)
    if not files:
        raise ValueError(
            f"{path} holds no images ({', '.join(SUFFIXES)}); "
            "give a folder or zip of class folders."
        )
    groups = _classes(files)
    if "" in groups:
        raise ValueError(
            f"{path} holds the image {groups[''][0]} outside of any class folder; "
            "put the images of each class into a folder of their own."
        )

    def decode() -> ClassImages:
        images = np.empty((len(files), size, size, 1 if grayscale else 3), np.uint8)
        members = [member for group in groups.values() for member in group]
        _decode_all(path, members, lambda image: as_pixels(image, size, grayscale, invert), images)
        counts = np.array([len(group) for group in groups.values()], np.int64)
        return ClassImages(images, counts, tuple(groups))

    return cached(path.stem, (str(path), size, grayscale, invert, stamps), decode)


def folder(
    path: str | os.PathLike[str],
    size: int = 84,
    grayscale: bool = False,
    rotations: bool = False,
    seed: int = 0,
    fractions: tuple[float, float, float] = (0.5, 0.25, 0.25),
) -> dict[str, Source]:
    """A user's own images as few-shot tasks.

    Subfolders ``train``, ``valid`` (or ``val``) and ``test``, with class folders in each, define
    the split; if there are none, the classes are split at random.

    Args:
      path: a folder or zip of class folders, as in :func:`load_images`.
      size: side in pixels. 84 is usual for mini-ImageNet with conv4, which pools by 2 four times;
        smaller pictures are better left at their own size.
      grayscale: one channel instead of three.
      rotations: make each quarter turn a class of its own.
      seed: seed of the random split.
      fractions: shares of the classes for training, validation and test; they sum to 1.

    Returns:
      The sources ``train``, ``valid`` and ``test``.

    Raises:
      FileNotFoundError: there is nothing at ``path``.
      ValueError: as for :func:`load_images`, or only two of the three subfolders exist, or a part
        of the split has no class.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from unittest import mock
    >>> from PIL import Image
    >>> with TemporaryDirectory() as root, mock.patch.dict("os.environ", JAXMETA_CACHE_DIR=root):
    ...     for name in ("ant", "bee", "cat", "dog"):
    ...         Path(root, "pets", name).mkdir(parents=True)
    ...         Image.new("RGB", (32, 32), "red").save(Path(root, "pets", name, "0.png"))
    ...     sources = folder(f"{root}/pets", size=8)
    >>> {part: source.classes for part, source in sources.items()}
    {'train': 2, 'valid': 1, 'test': 1}
    """
    data = load_images(path, size, grayscale)
    tops = [name.split("/")[0] for name in data.names]
    parts = {"train": "train", "valid": "valid" if "valid" in tops else "val", "test": "test"}
    absent = [part for part, top in parts.items() if top not in tops]
    if len(absent) == 1:
        raise ValueError(
            f"{path} has two of the sub-folders train, valid and test but no {absent[0]}; move "
            "some classes there, or put all into one folder to have them split at random."
        )
    if absent:
        split = random_split(data.names, fractions, seed)
    else:
        split = {
            part: [name for name, at in zip(data.names, tops, strict=True) if at == top]
            for part, top in parts.items()
        }
    return {
        part: class_source(*take_classes(data, chosen), **rotated(rotations))
        for part, chosen in split.items()
    }


def find_data(data_dir: str | os.PathLike[str] | None, name: str) -> Path | None:
    """The folder of data set ``name`` under ``data_dir``, or else under ``$JAXMETA_DATA_DIR``.

    Raises:
      FileNotFoundError: there is no such folder to look in.
    """
    root = data_dir or os.environ.get("JAXMETA_DATA_DIR")
    if not root:
        return None
    path = Path(root).expanduser()
    if not path.is_dir():
        raise FileNotFoundError(
            f"There is no folder {path}; "
            f"set --data_dir or JAXMETA_DATA_DIR to the one that holds {name}/."
        )
    return path / name if (path / name).is_dir() else None


def cached(stem: str, key: object, make: Callable[[], ClassImages]) -> ClassImages:
    """The result of ``make()``, cached on disk.

    Args:
      stem: the start of the file's name, for human readers.
      key: everything that determines the result; its ``repr`` is hashed.
      make: called if there is no such file or it is broken.
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    root = Path(os.environ.get("JAXMETA_CACHE_DIR") or Path(home) / "jaxmeta")
    digest = hashlib.sha256(repr((_FORMAT, key)).encode()).hexdigest()[:20]
    file = root / f"{stem}-{digest}.npz"
    data = _read_cache(file)
    if data is None:
        data = make()
        try:
            _write_cache(file, data)
        except OSError as error:
            sentence = f"{file} cannot be written ({error}); images are decoded again each time."
            warnings.warn(sentence, stacklevel=2)
    return data


def as_pixels(image: Image.Image, size: int, grayscale: bool, invert: bool) -> np.ndarray:
    """The image as uint8 ``[size, size, 1 or 3]``, upright, and white where transparent."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit gray, which Pillow would clip at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    # Convert first: a 1-bit image can only be resized to 1 bit.
    image = image.convert("L" if grayscale else "RGB")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    pixels = np.asarray(image).reshape(size, size, -1)
    return 255 - pixels if invert else pixels


def _list_zip(path: Path) -> tuple[list[str], object]:
    try:
        with zipfile.ZipFile(path) as archive:
            files = archive.namelist()
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} cannot be read as a zip ({error}); fetch it again.") from error
    stat = path.stat()
    return [name for name in files if _is_image(name)], (stat.st_size, stat.st_mtime_ns)


def _list_folder(path: Path) -> tuple[list[str], object]:
    found = sorted(p for p in path.rglob("*") if p.is_file())
    files = [name for p in found if _is_image(name := p.relative_to(path).as_posix())]
    stats = [(path / name).stat() for name in files]
    return files, [(f, s.st_size, s.st_mtime_ns) for f, s in zip(files, stats, strict=True)]


def _is_image(name: str) -> bool:
    # macOS puts hidden files with image suffixes, which are not images, into its zips.
    hidden = name.startswith((".", "__MACOSX/")) or "/." in name
    return name.lower().endswith(SUFFIXES) and not hidden


def _classes(files: list[str]) -> dict[str, list[str]]:
    """Files by the name of their class, both sorted."""
    tops = {name.partition("/")[0] for name in files}
    prefix = f"{tops.pop()}/" if len(tops) == 1 else ""
    if any("/" not in name[len(prefix) :] for name in files):
        prefix = ""  # the outermost folder is itself a class
    groups: dict[str, list[str]] = {}
    for name in files:
        groups.setdefault(name[len(prefix) :].rpartition("/")[0], []).append(name)
    return {name: sorted(groups[name]) for name in sorted(groups)}


def _decode_all(
    path: Path,
    members: list[str],
    convert: Callable[[Image.Image], np.ndarray],
    images: np.ndarray,
) -> None:
    """Fills ``images`` with the members of the folder or zip at ``path``."""

    def fill(read: Callable[[str], bytes], first: int, last: int) -> None:
        for i in range(first, last):
            try:
                with Image.open(io.BytesIO(read(members[i]))) as image:
                    images[i] = convert(image)
            except (OSError, ValueError, SyntaxError, zipfile.BadZipFile, zlib.error) as error:
                raise ValueError(
                    f"The image {members[i]} in {path} cannot be read ({error}); "
                    "replace or remove it."
                ) from error

    def run(read: Callable[[str], bytes]) -> None:
        step = 256  # images per job, so that the pool's own work does not count
        with ThreadPoolExecutor() as pool:
            jobs = [
                pool.submit(fill, read, i, min(i + step, len(members)))
                for i in range(0, len(members), step)
            ]
            for job in jobs:
                job.result()

    if path.is_dir():
        run(lambda member: (path / member).read_bytes())
        return
    lock = threading.Lock()
    with zipfile.ZipFile(path) as archive:

        def read(member: str) -> bytes:
            # Some Pythons (3.12.1) mix up what threads read from one zip at the same time.
            with lock:
                return archive.read(member)

        run(read)


def _read_cache(file: Path) -> ClassImages | None:
    """What is in the file, or ``None`` if there is none or it is broken."""
    try:
        # Opened here, because np.load leaves a broken file open.
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            images, counts, names = stored["images"], stored["counts"], stored["names"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    if counts.sum() != len(images) or len(counts) != len(names):
        return None
    return ClassImages(images, counts, tuple(names.tolist()))


def _write_cache(file: Path, data: ClassImages) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    # Another process may be reading or writing the same file: a rename shows it all or nothing.
    handle, temporary = tempfile.mkstemp(dir=file.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, images=data.images, counts=data.counts, names=np.array(data.names))
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink()
        raise
