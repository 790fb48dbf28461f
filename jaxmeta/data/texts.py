"""Labeled texts: a user's own files, and sets of short texts from few-shot papers."""

import csv
import gzip
import io
import json
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxmeta.data.classes import random_split
from jaxmeta.data.episodes import class_source
from jaxmeta.data.images import find_data
from jaxmeta.data.words import find_vectors, looked_up, token_ids, tokenize, vocabulary
from jaxmeta.types import Source

Labeled = list[tuple[str, str]]
"""Texts, each with the name of its class."""
Split = Mapping[str, Sequence[str]]


def texts(
    path: str | os.PathLike[str],
    text: str = "text",
    label: str = "label",
    vectors: str | None = None,
    length: int = 64,
    seed: int = 0,
    fractions: tuple[float, float, float] = (0.5, 0.25, 0.25),
) -> dict[str, Source]:
    r"""A user's own texts as few-shot tasks.

    An example is a dictionary of ``"tokens"``, int32 ``[length]``, with 0 after the end of the text
    and 1 for unknown words; ``"weights"`` ``[length]``, the inverse document frequencies of the
    tokens in the training split; and, with vectors, ``"words"`` ``[length, d]``.

    Args:
      path: a table with a header, ``.csv`` or ``.tsv``; JSON lines, ``.jsonl``, or an array,
        ``.json``; each also compressed as ``.gz``; or a folder of class folders with ``.txt``
        files.
      text: the column, or field, of the text.
      label: the column, or field, of its class.
      vectors: word vectors, as in :func:`jaxmeta.data.read_vectors`; ``None`` for none.
      length: number of words per text; longer texts are cut off.
      seed: seed of the random split of the classes.
      fractions: shares of the classes for training, validation and test; they sum to 1.

    Returns:
      Sources by the names ``train``, ``valid`` and ``test``.

    Raises:
      FileNotFoundError: there is nothing at ``path``.
      ValueError: it is not such a file or folder, a row lacks a field, there is no text, or a part
        of the split has no class.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as root:
    ...     rows = "".join(f"{word} {word},{word}\n" for word in ("ant", "bee", "cat", "dog"))
    ...     _ = Path(root, "pets.csv").write_text("text,label\n" + rows)
    ...     sources = texts(f"{root}/pets.csv", length=4)
    >>> {part: source.classes for part, source in sources.items()}
    {'train': 2, 'valid': 1, 'test': 1}
    """
    path = Path(path).expanduser()
    if path.is_dir():
        labeled = _of_folder(path)
    elif path.is_file():
        labeled = _of_file(path, text, label)
    else:
        raise FileNotFoundError(f"There is no file or folder at {path}; check the path.")
    names = sorted({name for _, name in labeled})
    if not names:
        raise ValueError(
            f"{path} holds no text: give a table, JSON lines, or a folder of .txt files."
        )
    return _sources(labeled, random_split(names, fractions, seed), vectors, length)


def short_texts(
    name: str,
    vectors: str | None = None,
    length: int = 32,
    data_dir: str | os.PathLike[str] | None = None,
) -> dict[str, Source]:
    """Sets of short texts: headlines, newswires and requests.

    ========== ======== ======= ========================================
    name       classes  texts   split into train, valid and test
    ========== ======== ======= ========================================
    huffpost   41       36,900  20, 5 and 16 classes, as in Bao et al.
    reuters    31       620     15, 5 and 11 classes, as in Bao et al.
    banking77  77       13,083  25, 25 and 27 classes at random
    clinc150   150      22,500  50, 50 and 50 classes at random
    hwu64      64       11,036  23, 16 and 25 classes at random
    liu54      54       25,478  18, 18 and 18 classes at random
    ========== ======== ======= ========================================

    Examples are as in :func:`texts`.

    Args:
      name: name of the set.
      vectors: as in :func:`texts`; a path may also be relative to ``data_dir``.
      length: as in :func:`texts`.
      data_dir: the folder that holds ``fewshot_text/`` with the files. ``None`` is
        ``$JAXMETA_DATA_DIR``.

    Returns:
      Sources by the names ``train``, ``valid`` and ``test``.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: there is no set of that name, or as :func:`texts`.

    References:
      Bao, Wu, Chang and Barzilay, 2020, Few-shot Text Classification with Distributional
      Signatures (HuffPost, Reuters); Casanueva et al., 2020, Efficient Intent Detection with Dual
      Sentence Encoders (BANKING77); Larson et al., 2019, An Evaluation Dataset for Intent
      Classification and Out-of-Scope Prediction (CLINC150); Liu et al., 2019, Benchmarking Natural
      Language Understanding Services (HWU64, Liu54).
    """
    if name not in SETS:
        raise ValueError(f"There is no set of texts '{name}': choose {', '.join(SETS)}.")
    folder = find_data(data_dir, "fewshot_text")
    if folder is None:
        raise FileNotFoundError(
            "The short texts are not there: set --data_dir or JAXMETA_DATA_DIR to the folder that "
            "holds fewshot_text/."
        )
    labeled = SETS[name].read(folder)
    split = SETS[name].split(labeled)
    return _sources(labeled, split, find_vectors(vectors, data_dir), length)


class _Set(NamedTuple):
    """How a set of texts is read and split."""

    read: Callable[[Path], Labeled]
    split: Callable[[Labeled], Split]


def _sources(labeled: Labeled, split: Split, vectors: str | None, length: int) -> dict[str, Source]:
    """The sources of texts whose classes are split."""
    sentences: dict[str, list[list[str]]] = {}
    for text, name in labeled:
        sentences.setdefault(name, []).append(tokenize(text))
    parts = {part: {name: sentences[name] for name in names} for part, names in split.items()}
    flat = {part: [s for each in classes.values() for s in each] for part, classes in parts.items()}
    known = vocabulary(flat["train"], flat["valid"] + flat["test"], vectors)
    tables = {"weights": known.weights}
    if known.vectors is not None:
        tables["words"] = known.vectors
    sources = {}
    for part, classes in parts.items():
        tokens = token_ids(flat[part], known.numbers, length)
        counts = [len(each) for each in classes.values()]
        sources[part] = looked_up(class_source({"tokens": tokens}, counts, [*classes]), tables)
    return sources


def _of_folder(path: Path) -> Labeled:
    """The text files of class folders; the class of a file is the folder that holds it."""
    files = sorted(path.rglob("*.txt"))
    for file in files:
        if file.parent == path:
            raise ValueError(
                f"{path} holds the text {file.name} outside of any class folder; put the texts of "
                "each class into a folder of their own."
            )
    return [(read_text(file), file.parent.relative_to(path).as_posix()) for file in files]


def _of_file(path: Path, text: str, label: str) -> Labeled:
    """The rows of a table or of JSON lines."""
    content = read_text(path)
    kind = path.name.removesuffix(".gz").rpartition(".")[2].lower()
    rows: list[dict[str, Any]]
    if kind in ("csv", "tsv"):
        csv.field_size_limit(2**31 - 1)  # otherwise a text has at most 131,072 characters
        rows = [*csv.DictReader(io.StringIO(content), delimiter="\t" if kind == "tsv" else ",")]
    elif kind in ("jsonl", "json"):
        try:
            if content.lstrip().startswith("["):
                rows = json.loads(content)
            else:
                # Not splitlines, as a text may have a line separator of Unicode.
                rows = [json.loads(line) for line in content.split("\n") if line.strip()]
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} has a line that is no JSON ({error}): mend it.") from error
    else:
        raise ValueError(f"{path} is no .csv, .tsv or .jsonl: give one of these, or a folder.")
    for number, row in enumerate(rows, start=1):
        for field in (text, label):
            if not isinstance(row, dict) or row.get(field) is None:
                have = ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
                raise ValueError(
                    f"Row {number} of {path} has no '{field}' (it has {have}): name the fields of "
                    "text and class by text and label."
                )
    return [(str(row[text]), str(row[label])) for row in rows]


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, which may be compressed or begin with a byte order mark.

    Raises:
      ValueError: it is no such file.
    """
    data = path.read_bytes()
    try:
        data = gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is no whole gzip file ({error}): fetch it again.") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not in UTF-8 ({error}): convert it, as by iconv -f latin1 -t utf-8."
        ) from error


def _bao(train: int, valid: int) -> Callable[[Labeled], Split]:
    """The first classes by number for training, the next for validation, the rest for testing."""

    def split(labeled: Labeled) -> Split:
        names = sorted({name for _, name in labeled}, key=int)
        return {
            "train": names[:train],
            "valid": names[train : train + valid],
            "test": names[train + valid :],
        }

    return split


def _shuffled(train: int, valid: int) -> Callable[[Labeled], Split]:
    """The same as ``_bao``, with the classes in a random order."""

    def split(labeled: Labeled) -> Split:
        names = sorted({name for _, name in labeled})
        count = len(names)
        shares = train / count, valid / count, 1 - (train + valid) / count
        return random_split(names, shares, seed=0)

    return split


def _json_lines(file: str) -> Callable[[Path], Labeled]:
    return lambda folder: _of_file(folder / file, "raw", "label")


def _banking(folder: Path) -> Labeled:
    files = [folder / f"banking77_{part}.csv.gz" for part in ("train", "test")]
    return [row for file in files for row in _of_file(file, "text", "category")]


def _clinc(folder: Path) -> Labeled:
    parts = json.loads(read_text(folder / "clinc150_full.json.gz"))
    return [(text, name) for part in ("train", "val", "test") for text, name in parts[part]]


SETS = {
    "huffpost": _Set(_json_lines("huffpost.jsonl.gz"), _bao(20, 5)),
    "reuters": _Set(_json_lines("reuters.jsonl.gz"), _bao(15, 5)),
    "banking77": _Set(_banking, _shuffled(25, 25)),
    "clinc150": _Set(_clinc, _shuffled(50, 50)),
    "hwu64": _Set(_json_lines("hwu64.jsonl.gz"), _shuffled(23, 16)),
    "liu54": _Set(_json_lines("liu54.jsonl.gz"), _shuffled(18, 18)),
}
"""The sets of :func:`short_texts`, by name."""
