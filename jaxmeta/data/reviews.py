"""Reviews of 16 domains, good or bad: to learn from one domain and to be tested on another."""

import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxmeta.data.domain_shift import domain_shift
from jaxmeta.data.episodes import class_source
from jaxmeta.data.images import find_data
from jaxmeta.data.many_tasks import task_source
from jaxmeta.data.words import find_vectors, looked_up, token_ids, tokenize, vocabulary
from jaxmeta.types import Source

Texts = dict[str, dict[str, list[str]]]
"""The texts of each class of each part."""

DOMAINS = (
    *("MR", "apparel", "baby", "books", "camera_photo", "dvd", "electronics"),
    *("health_personal_care", "imdb", "kitchen_housewares", "magazines", "music", "software"),
    *("sports_outdoors", "toys_games", "video"),
)
"""MR and imdb are reviews of films, the others those of products by their kind."""

VALIDATION = 200
"""So many training rows of each domain, the last ones, are for validation."""

CLASSES = {"0": "negative", "1": "positive"}


def reviews(
    domain: str,
    vectors: str | None = None,
    length: int = 128,
    leaked: bool = False,
    data_dir: str | os.PathLike[str] | None = None,
) -> dict[str, Source]:
    r"""FDU-MTL: about 2,000 reviews of one domain, half of them bad (class 0) and half good (1).

    An example is a dictionary of ``"tokens"``, int32 ``[length]``, with 0 after the end of the text
    and 1 for unknown words; ``"weights"`` ``[length]``, the inverse document frequencies of the
    tokens; and, with vectors, ``"words"`` ``[length, d]``. A word has another number in each domain
    that is read on its own: read domains between which a model moves by :func:`review_domains`.

    Args:
      domain: one of :data:`jaxmeta.data.reviews.DOMAINS`, such as ``"books"``.
      vectors: word vectors, as in :func:`jaxmeta.data.read_vectors`; a path may also be relative to
        ``data_dir``. ``None`` for none.
      length: number of words per text; longer texts are cut off. The default cuts off 35 % of the
        texts; 256 cuts off 12 %, and 400 5 %.
      leaked: keep the training and validation rows whose text also stands, word for word, in the
        test part, as published results do. 538 of the 6,400 test texts have such a copy, 169 of
        the 400 of ``"magazines"`` alone. Report which.
      data_dir: the folder that holds ``fdu_mtl/`` with the files ``books.task.train`` and so on, or
        with zips of them. ``None`` is ``$JAXMETA_DATA_DIR``.

    Returns:
      Sources by the names ``train``, ``valid`` (the last 200 training rows) and ``test`` (400
      rows); and ``unlabeled``, about 2,000 further texts as one class. Other copies are kept: among
      the unlabeled texts, and in ``valid`` of rows of ``train`` (91 of 180 of ``"magazines"``).

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: there is no such domain, a file is not what its name says, or as
        :func:`jaxmeta.data.read_vectors`.

    References:
      Liu, Qiu and Huang, 2017, Adversarial Multi-task Learning for Text Classification.

    Here with 300 reviews for training, 200 of which are for validation, and two for testing:

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as root:
    ...     folder = Path(root, "fdu_mtl")
    ...     folder.mkdir()
    ...     _ = (folder / "books.task.train").write_text("1\ta page turner\n0\ta bore\n" * 150)
    ...     _ = (folder / "books.task.test").write_text("1\twhat a page turner\n0\tso dull\n")
    ...     _ = (folder / "books.task.unlabel").write_text("it has pages\n")
    ...     sources = reviews("books", length=4, data_dir=root)
    >>> {part: source.data.source.counts.tolist() for part, source in sources.items()}
    {'train': [50, 50], 'valid': [100, 100], 'test': [1, 1], 'unlabeled': [1]}
    """
    return review_domains([domain], vectors, length, leaked, data_dir)[domain]


def review_domains(
    domains: Sequence[str],
    vectors: str | None = None,
    length: int = 128,
    leaked: bool = False,
    data_dir: str | os.PathLike[str] | None = None,
) -> dict[str, dict[str, Source]]:
    r"""Several domains of FDU-MTL with one vocabulary, to learn from one and be tested on another.

    A word has one number, one weight and one vector in all domains. The trained words, and the
    weights, are those of the training and unlabeled texts of all these domains, so that words of
    the target domain are known without its labels. They do not depend on the order of the domains.

    Args:
      domains: names of domains, as in :func:`reviews`.
      vectors: as in :func:`reviews`.
      length: as in :func:`reviews`.
      leaked: as in :func:`reviews`. Only copies within a domain are left out; 21 more test texts
        have a copy in the training rows of another domain.
      data_dir: as in :func:`reviews`.

    Returns:
      The sources of :func:`reviews` by the name of the domain.

    Raises:
      FileNotFoundError, ValueError: as :func:`reviews`.

    References:
      Liu, Qiu and Huang, 2017, Adversarial Multi-task Learning for Text Classification.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as root:
    ...     folder = Path(root, "fdu_mtl")
    ...     folder.mkdir()
    ...     for domain, noun in {"books": "book", "music": "song"}.items():
    ...         rows = f"1\tgood {noun}\n0\tbad {noun}\n"
    ...         _ = (folder / f"{domain}.task.train").write_text(rows * 150)
    ...         _ = (folder / f"{domain}.task.test").write_text(rows.replace("\t", "\ta "))
    ...         _ = (folder / f"{domain}.task.unlabel").write_text(f"a {noun}\n")
    ...     sources = review_domains(["books", "music"], length=3, data_dir=root)
    >>> for domain in sources:  # "a bad" and "a good" have the same numbers in both
    ...     sources[domain]["test"].data.source.examples["tokens"].tolist()
    [[6, 4, 2], [6, 5, 2]]
    [[6, 4, 3], [6, 5, 3]]
    """
    unknown = [domain for domain in domains if domain not in DOMAINS]
    if isinstance(domains, str) or unknown:
        wrong = domains if isinstance(domains, str) else unknown[0]
        raise ValueError(f"'{wrong}' is no domain of reviews: choose of {', '.join(DOMAINS)}.")
    folder = find_data(data_dir, "fdu_mtl")
    if folder is None:
        raise FileNotFoundError(
            "FDU-MTL is not there: set --data_dir or JAXMETA_DATA_DIR to the folder that holds "
            "fdu_mtl/ with books.task.train and the like, or with zips of them."
        )
    texts = {domain: read_domain(folder, domain, leaked) for domain in domains}
    sentences = {
        domain: {
            part: [tokenize(text) for each in classes.values() for text in each]
            for part, classes in parts.items()
        }
        for domain, parts in texts.items()
    }
    trained, others = (
        [sentence for parts in sentences.values() for name in names for sentence in parts[name]]
        for names in (("train", "unlabeled"), ("valid", "test"))
    )
    known = vocabulary(trained, others, find_vectors(vectors, data_dir))
    # On the device once, for all sources.
    tables = {"weights": jnp.asarray(known.weights)}
    if known.vectors is not None:
        tables["words"] = jnp.asarray(known.vectors)

    def source(domain: str, part: str) -> Source:
        tokens = token_ids(sentences[domain][part], known.numbers, length)
        classes = texts[domain][part]
        counts = [len(each) for each in classes.values()]
        return looked_up(class_source({"tokens": tokens}, counts, [*classes]), tables)

    return {domain: {part: source(domain, part) for part in texts[domain]} for domain in texts}


def review_tasks(
    domains: Sequence[str] = DOMAINS,
    vectors: str | None = None,
    length: int = 128,
    leaked: bool = False,
    sizes: Sequence[int] | None = None,
    held_out: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
) -> dict[str, Source]:
    """FDU-MTL as one task for each domain, to learn all of them together.

    Args:
      domains: names of domains, as in :func:`reviews`.
      vectors: as in :func:`reviews`.
      length: as in :func:`reviews`.
      leaked: as in :func:`reviews`.
      sizes: how many training texts each domain keeps, half of them of each class: the first ones
        in the order of the files. ``None`` for all.
      held_out: one of the domains, which is left out of training and validation and alone makes
        the test, for generalization to a domain of which nothing is known but words.
      data_dir: as in :func:`reviews`.

    Returns:
      Sources of tasks, as of :func:`jaxmeta.data.task_source`, by the names ``train``, ``valid``
      and ``test``, with the inputs of :func:`reviews`. The vocabulary is that of all training and
      unlabeled texts, whatever the sizes.

    Raises:
      FileNotFoundError, ValueError: as :func:`reviews`, a domain has no such number of texts, or
        the one to hold out is not among the domains.

    References:
      Liu, Qiu and Huang, 2017, Adversarial Multi-task Learning for Text Classification.
    """
    if held_out is not None and held_out not in domains:
        raise ValueError(f"The domain to hold out is '{held_out}': choose of {', '.join(domains)}.")
    sources = review_domains(domains, vectors, length, leaked, data_dir)
    tables = next(iter(sources.values()))["train"].data.tables
    learned = [domain for domain in domains if domain != held_out]
    tested = learned if held_out is None else [held_out]
    return {
        part: looked_up(_together({d: sources[d][part] for d in own}, limits), tables)
        for part, own, limits in (
            ("train", learned, sizes),
            ("valid", learned, None),
            ("test", tested, None),
        )
    }


def _together(sources: Mapping[str, Source], sizes: Sequence[int] | None) -> Source:
    """One source of the tasks of several, each with so many examples at most."""
    if sizes is not None and len(sizes) != len(sources):
        raise ValueError(
            f"sizes has {len(sizes)} numbers and there are {len(sources)} domains: give each one."
        )
    tokens, counts = [], []
    for place, (name, source) in enumerate(sources.items()):
        data = source.data.source
        have = np.asarray(data.counts)
        want = have if sizes is None else np.full_like(have, sizes[place] // 2)
        if (want > have).any() or not want.all():
            raise ValueError(
                f"sizes has {sizes and sizes[place]} for '{name}', which has {have.tolist()} texts "
                "of its classes: give an even number of 2 or more that fits."
            )
        rows = [
            start + np.arange(n) for start, n in zip(np.asarray(data.starts), want, strict=True)
        ]
        tokens.append(np.asarray(data.examples["tokens"])[np.concatenate(rows)])
        counts.append(want)
    return task_source({"tokens": np.concatenate(tokens)}, np.stack(counts), [*sources])


def review_shift(
    source: str,
    target: str,
    vectors: str | None = None,
    length: int = 128,
    leaked: bool = False,
    data_dir: str | os.PathLike[str] | None = None,
) -> dict[str, Source]:
    """Labeled reviews of one domain, and those of another without their labels.

    The unlabeled batches are of the target's training rows; its further unlabeled texts only
    contribute their words to the vocabulary.

    Args:
      source: the labeled domain, as in :func:`reviews`.
      target: the other domain.
      vectors: as in :func:`reviews`.
      length: as in :func:`reviews`.
      leaked: as in :func:`reviews`.
      data_dir: as in :func:`reviews`.

    Returns:
      The sources of :func:`jaxmeta.data.domain_shift`, with one vocabulary for both domains.

    Raises:
      FileNotFoundError, ValueError: as :func:`reviews`.
    """
    both = review_domains([source, target], vectors, length, leaked, data_dir)
    return domain_shift(both[source], both[target])


def read_domain(folder: Path, domain: str, leaked: bool = False) -> Texts:
    """The texts of one domain: ``train``, ``valid``, ``test`` and ``unlabeled``, by class.

    Args:
      folder: the folder with the files or zips.
      domain: name of the domain.
      leaked: as in :func:`reviews`.
    """
    training, test = (_labeled(folder, f"{domain}.task.{part}") for part in ("train", "test"))
    tested = {text for _, text in test}
    parts = {"train": training[:-VALIDATION], "valid": training[-VALIDATION:]}
    if not leaked:
        parts = {
            part: [(label, text) for label, text in rows if text not in tested]
            for part, rows in parts.items()
        }
    parts["test"] = test
    texts = {
        part: {
            name: [text for label, text in rows if label == key] for key, name in CLASSES.items()
        }
        for part, rows in parts.items()
    }
    unlabeled = [text for text in _lines(folder, f"{domain}.task.unlabel") if text]
    return texts | {"unlabeled": {"unlabeled": unlabeled}}


def _labeled(folder: Path, name: str) -> list[tuple[str, str]]:
    """The rows of a file as label and text."""
    rows = []
    for number, line in enumerate(_lines(folder, name), start=1):
        label, tab, text = line.partition("\t")
        if line and (not tab or label not in CLASSES):
            raise ValueError(
                f"Row {number} of {name} in {folder} begins with '{line[:10]}' and not with 0 or 1 "
                "and a tab: fetch the file again."
            )
        if line:
            rows.append((label, text.strip()))
    return rows


def _lines(folder: Path, name: str) -> list[str]:
    """The lines of a file that lies in a folder or in one of the zips there."""
    data = (folder / name).read_bytes() if (folder / name).is_file() else None
    for path in sorted(folder.glob("*.zip")) if data is None else ():
        try:
            with zipfile.ZipFile(path) as archive:
                if name in archive.namelist():
                    data = archive.read(name)
        except (zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path} cannot be read ({error}): fetch it again.") from error
    if data is None:
        raise FileNotFoundError(f"There is no {name} in {folder} or its zips: put it there.")
    try:
        text = data.decode()
    except UnicodeDecodeError:  # as some of the published files are
        text = data.decode("latin-1")
    # Not splitlines, which also splits at characters that stand within reviews.
    return [line.strip(" \r") for line in text.split("\n")]
