"""FewRel: which relation a sentence states between two of its entities."""

import gzip
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxmeta.data.classes import shuffled
from jaxmeta.data.episodes import class_source
from jaxmeta.data.images import find_data
from jaxmeta.data.words import find_vectors, looked_up, token_ids, vocabulary
from jaxmeta.types import Source

Sentences = dict[str, list[dict[str, Any]]]
VALIDATION = 10
TRAINING = ("train_wiki.json", "train_wiki_part.json.gz")


def fewrel(
    test: str = "val_wiki",
    valid: str | None = None,
    vectors: str | None = None,
    length: int = 40,
    relations: Sequence[str] | None = None,
    sentences: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
) -> dict[str, Source]:
    """FewRel 1.0 and 2.0: relations between entities, in Wikipedia and in other domains.

    Of the 64 training relations, 54 are trained on and 10 validated on, as the official validation
    set ``val_wiki`` takes the place of the hidden test set. An example is a dictionary of
    ``"tokens"`` int32 ``[length]``, 0 where the sentence is over and 1 for unknown words, and
    ``"head"`` and ``"tail"`` int32, the places of the first words of the two entities. With
    vectors also ``"words"`` ``[length, d]``, the vectors of the tokens.

    Args:
      test: the file whose relations are tested, without its suffix: ``"val_wiki"``, or another
        domain, ``"val_nyt"``, ``"val_semeval"`` or ``"val_pubmed"``.
      valid: a file to validate on instead of the 10 relations.
      vectors: of words, as in :func:`jaxmeta.data.read_vectors`, also by a path from ``data_dir``
        on; ``None`` for none.
      length: words of a sentence; what is longer is cut off. The longest sentence from Wikipedia
        has 36 words; in NYT and PubMed 98 % have 92 or fewer.
      relations: the only relations to test, by name; ``None`` for all of the file.
      sentences: how many sentences of each training relation are used, at most; ``None`` for all.
      data_dir: the folder that holds ``fewrel/`` with the official files, ``train_wiki.json`` or a
        part of it, ``train_wiki_part.json.gz``. ``None`` is ``$JAXMETA_DATA_DIR``.

    Returns:
      Sources by the names ``train``, ``valid`` and ``test``.

    Raises:
      FileNotFoundError: a file is not there.
      ValueError: a relation is not in the file, or as :func:`jaxmeta.data.read_vectors`.

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
    known = read_relations(folder, *TRAINING)
    names = shuffled(sorted(known), seed=0)
    parts = {
        "train": {name: known[name] for name in sorted(names[VALIDATION:])},
        "valid": {name: known[name] for name in sorted(names[:VALIDATION])},
        "test": read_relations(folder, f"{test}.json"),
    }
    if valid is not None:
        parts["valid"] = read_relations(folder, f"{valid}.json")
    if relations is not None:
        missing = [name for name in relations if name not in parts["test"]]
        if missing:
            raise ValueError(
                f"{test} has no relation '{missing[0]}': give some of {', '.join(parts['test'])}."
            )
        parts["test"] = {name: parts["test"][name] for name in relations}
    if sentences is not None:
        parts["train"] = {name: rows[:sentences] for name, rows in parts["train"].items()}
    words = {part: [*map(_words, _rows(each))] for part, each in parts.items()}
    table = vocabulary(
        words["train"], words["valid"] + words["test"], find_vectors(vectors, data_dir)
    )
    sources = {}
    for part, each in parts.items():
        heads, tails = (_places(_rows(each), entity, length) for entity in ("h", "t"))
        tokens = token_ids(words[part], table.numbers, length)
        counts = [len(rows) for rows in each.values()]
        source = class_source({"tokens": tokens, "head": heads, "tail": tails}, counts, [*each])
        if table.vectors is not None:
            source = looked_up(source, {"words": table.vectors})
        sources[part] = source
    return sources


def read_relations(folder: Path, *files: str) -> Sentences:
    """The sentences of each relation, of the first of some files that is there."""
    for file in files:
        path = folder / file
        if path.exists():
            data = path.read_bytes()
            found: Sentences = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
            return found
    raise FileNotFoundError(f"There is no {' or '.join(files)} in {folder}: put it there.")


def _rows(relations: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [row for rows in relations.values() for row in rows]


def _words(row: Mapping[str, Any]) -> list[str]:
    """In lower case, as the vectors are and part of the files."""
    return [token.lower() for token in row["tokens"]]


def _places(rows: Sequence[Mapping[str, Any]], entity: str, length: int) -> np.ndarray:
    """Where the first mention of an entity begins; at the end where that is cut off."""
    return np.array([min(row[entity][2][0][0], length - 1) for row in rows], np.int32)
