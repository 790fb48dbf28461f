"""FewRel: which relation a sentence states between two of its entities."""

import gzip
import itertools
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxmeta.checks import check_count
from jaxmeta.data.classes import shuffled
from jaxmeta.data.domain_shift import with_unlabeled
from jaxmeta.data.episodes import class_source
from jaxmeta.data.images import find_data
from jaxmeta.data.words import find_vectors, looked_up, token_ids, vocabulary
from jaxmeta.types import Source

Sentences = dict[str, list[dict[str, Any]]]
VALIDATION = 10
TRAINING = ("train_wiki.json", "train_wiki_part.json.gz")


def fewrel(
    test: str = "val_wiki",
    train: Sequence[str] = (),
    valid: str | None = None,
    vectors: str | None = None,
    length: int = 40,
    shared_with: str | None = None,
    sentences: int | None = None,
    held_out: int = 0,
    unlabeled: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
) -> dict[str, Source]:
    """FewRel 1.0 and 2.0: relations between entities, in Wikipedia and in other domains.

    Of the 64 training relations, 54 are used for training and 10 for validation, as the official
    validation set ``val_wiki`` takes the place of the hidden test set. An example is a dictionary
    of ``"tokens"``, int32 ``[length]``, with 0 after the end of the sentence and 1 for unknown
    words; ``"head"`` and ``"tail"``, int32, the positions of the first words of the two entities;
    and, with vectors, ``"words"`` ``[length, d]``, the vectors of the tokens.

    Args:
      test: the file whose relations are tested, without its suffix: ``"val_wiki"``, or another
        domain, ``"val_nyt"``, ``"val_semeval"`` or ``"val_pubmed"``; or ``"held_out"`` for
        sentences of the training relations that are not trained on.
      train: files to train on instead of the 54 relations; ``"train_wiki"`` has all 64. The
        sentences of a file without relations, such as ``"pubmed_unsupervised"``, are one class,
        named like the file.
      valid: a file to validate on instead of the 10 relations.
      vectors: word vectors, as in :func:`jaxmeta.data.read_vectors`; a path may also be relative to
        ``data_dir``. ``None`` for none.
      length: number of words per sentence; longer sentences are cut off. The longest sentence from
        Wikipedia has 36 words; in NYT and PubMed 98 % have 92 or fewer.
      shared_with: another file; only relations that it also has are tested. ``"val_wiki"`` and
        ``"val_nyt"`` share 8. ``None`` for all relations.
      sentences: the most sentences of each training relation to train on; ``None`` for all.
      held_out: how many further sentences of each training relation are held out, to be tested by
        ``test="held_out"``.
      unlabeled: a file of another domain, such as ``"pubmed_unsupervised"``, whose sentences are
        drawn without their labels beside those of training, as by
        :func:`jaxmeta.data.with_unlabeled`; ``None`` for none.
      data_dir: the folder that holds ``fewrel/`` with the official files, ``train_wiki.json`` or a
        part of it, ``train_wiki_part.json.gz``, of which a warning tells. ``None`` is
        ``$JAXMETA_DATA_DIR``.

    Returns:
      Sources by the names ``train``, ``valid`` and ``test``.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: two of the three have a relation in common (but for ``"held_out"``), no relation
        is left to test or no sentence to train on, a number is negative, or as
        :func:`jaxmeta.data.read_vectors`.

    References:
      Han et al., 2018, FewRel: A Large-Scale Supervised Few-Shot Relation Classification Dataset;
      Gao et al., 2019, FewRel 2.0: Towards More Challenging Few-Shot Relation Classification.
    """
    folder = find_data(data_dir, "fewrel")
    if folder is None:
        raise FileNotFoundError(
            "FewRel is not there: set --data_dir or JAXMETA_DATA_DIR to the folder that holds "
            "fewrel/ with train_wiki.json and val_wiki.json."
        )
    check_count("held_out", held_out)
    known = read_relations(folder, *TRAINING)
    if (not train or "train_wiki" in train) and not (folder / TRAINING[0]).exists():
        sentence = f"{folder} has no {TRAINING[0]}: training is on {TRAINING[1]}, a part of it."
        warnings.warn(sentence, stacklevel=2)
    names = shuffled(sorted(known), seed=0)
    trained = {name: known[name] for name in sorted(names[VALIDATION:])}
    if train:
        trained = {}
        for file in train:
            files = TRAINING if file == "train_wiki" else (f"{file}.json",)
            for name, rows in read_relations(folder, *files).items():
                trained[name] = [*trained.get(name, []), *rows]
    kept = {name: rows[:held_out] for name, rows in trained.items()}
    trained = {name: rows[held_out:] for name, rows in trained.items()}
    if sentences is not None:
        check_count("sentences", sentences, least=1)
        trained = {name: rows[:sentences] for name, rows in trained.items()}
    if not all(trained.values()):
        raise ValueError(
            f"held_out is {held_out}, which leaves relations without a sentence to train on: give "
            "less."
        )
    validated = {name: known[name] for name in sorted(names[:VALIDATION])}
    if valid is not None:
        validated = read_relations(folder, f"{valid}.json")
    tested = kept if test == "held_out" else read_relations(folder, f"{test}.json")
    if shared_with is not None:
        others = read_relations(folder, f"{shared_with}.json")
        tested = {name: rows for name, rows in tested.items() if name in others}
    if not any(tested.values()):
        raise ValueError(
            f"No sentence of '{test}' is left to test (shared_with is {shared_with}, held_out "
            f"{held_out}): give other files, or a held_out of 1 or more."
        )
    parts = {"train": trained, "valid": validated, "test": tested}
    check_apart(
        {part: rows for part, rows in parts.items() if test != "held_out" or part != "test"}
    )
    if unlabeled is not None:
        parts["unlabeled"] = read_relations(folder, f"{unlabeled}.json")
    words = {part: [*map(_words, _rows(each))] for part, each in parts.items()}
    known_in = words["train"] + words.get("unlabeled", [])
    table = vocabulary(known_in, words["valid"] + words["test"], find_vectors(vectors, data_dir))
    sources = {}
    for part, each in parts.items():
        heads, tails = (_places(_rows(each), entity, length) for entity in ("h", "t"))
        tokens = token_ids(words[part], table.numbers, length)
        counts = [len(rows) for rows in each.values()]
        source = class_source({"tokens": tokens, "head": heads, "tail": tails}, counts, [*each])
        if table.vectors is not None:
            source = looked_up(source, {"words": table.vectors})
        sources[part] = source
    if unlabeled is not None:
        sources["train"] = with_unlabeled(sources["train"], sources.pop("unlabeled"))
    return sources


def check_apart(parts: Mapping[str, Sentences]) -> None:
    """Raises ``ValueError`` if two parts have a relation in common."""
    for (one, few), (other, more) in itertools.combinations(parts.items(), 2):
        common = sorted(few.keys() & more.keys())
        if common:
            raise ValueError(
                f"The {one} and {other} parts have {len(common)} relations in common, such as "
                f"'{common[0]}': give files of different relations."
            )


def read_relations(folder: Path, *files: str) -> Sentences:
    """The sentences of each relation, from the first of some files that exists."""
    for file in files:
        path = folder / file
        if path.exists():
            data = path.read_bytes()
            found = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
            relations: Sentences = found if isinstance(found, dict) else {path.stem: found}
            return relations
    raise FileNotFoundError(f"There is no {' or '.join(files)} in {folder}: put it there.")


def _rows(relations: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [row for rows in relations.values() for row in rows]


def _words(row: Mapping[str, Any]) -> list[str]:
    """The words in lower case, like those of the vectors and of some of the files."""
    return [token.lower() for token in row["tokens"]]


def _places(rows: Sequence[Mapping[str, Any]], entity: str, length: int) -> np.ndarray:
    """Where the first mention of an entity begins; the last position if that is cut off."""
    return np.array([min(row[entity][2][0][0], length - 1) for row in rows], np.int32)
