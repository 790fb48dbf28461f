"""CLINC150 as two tasks: the domain of a request, and its intent."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxmeta.data.images import find_data
from jaxmeta.data.many_tasks import task_source
from jaxmeta.data.words import find_vectors, looked_up, token_ids, tokenize, vocabulary
from jaxmeta.types import Source

PARTS = {"train": "train", "valid": "val", "test": "test"}


def clinc150_tasks(
    vectors: str | None = None,
    length: int = 32,
    data_dir: str | os.PathLike[str] | None = None,
) -> dict[str, Source]:
    """CLINC150: requests to an assistant, of 10 domains (task 0) and 150 intents (task 1).

    Every request belongs to both tasks; those out of scope are left out. The inputs are those of
    :func:`jaxmeta.data.texts`.

    Args:
      vectors: as in :func:`jaxmeta.data.short_texts`.
      length: as in :func:`jaxmeta.data.short_texts`.
      data_dir: as in :func:`jaxmeta.data.short_texts`.

    Returns:
      Sources of two tasks, as of :func:`jaxmeta.data.task_source`, by the names ``train``,
      ``valid`` and ``test``: the official 15,000, 3,000 and 4,500 requests.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: as :func:`jaxmeta.data.read_vectors`.

    References:
      Larson et al., 2019, An Evaluation Dataset for Intent Classification and Out-of-Scope
      Prediction.

    Here with one request of each intent:

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as root:
    ...     folder = Path(root, "fewshot_text")
    ...     folder.mkdir()
    ...     rows = [["how much do i have", "balance"], ["book a flight", "flight"]]
    ...     both = {"domains": {"bank": ["balance"], "travel": ["flight"]}}
    ...     both["full"] = {part: rows for part in ("train", "val", "test")}
    ...     for name, content in both.items():
    ...         path = folder / f"clinc150_{name}.json.gz"
    ...         _ = path.write_bytes(gzip.compress(json.dumps(content).encode()))
    ...     sources = clinc150_tasks(data_dir=root)
    >>> sources["train"].data.source.counts.tolist()
    [1, 1, 1, 1]
    """
    folder = find_data(data_dir, "fewshot_text")
    if folder is None:
        raise FileNotFoundError(
            "CLINC150 is not there: set --data_dir or JAXMETA_DATA_DIR to the folder that holds "
            "fewshot_text/ with clinc150_full.json.gz and clinc150_domains.json.gz."
        )
    domains, full = (_read(folder / f"clinc150_{name}.json.gz") for name in ("domains", "full"))
    intents = [intent for each in domains.values() for intent in each]
    domain_of = [place for place, each in enumerate(domains.values()) for _ in each]
    number = {intent: place for place, intent in enumerate(intents)}
    rows = {
        part: sorted(full[name], key=lambda row: number[row[1]]) for part, name in PARTS.items()
    }
    sentences = {part: [tokenize(text) for text, _ in own] for part, own in rows.items()}
    others = sentences["valid"] + sentences["test"]
    known = vocabulary(sentences["train"], others, find_vectors(vectors, data_dir))
    tables = {"weights": known.weights}
    if known.vectors is not None:
        tables["words"] = known.vectors

    def source(part: str) -> Source:
        tokens = token_ids(sentences[part], known.numbers, length)
        of_intents = np.bincount([number[name] for _, name in rows[part]], minlength=len(intents))
        of_domains = np.bincount(domain_of, of_intents, minlength=len(intents)).astype(int)
        # Sorted by intent, and so by domain: both tasks have the texts in the same order.
        twice = {"tokens": np.concatenate([tokens, tokens])}
        counts = np.stack([of_domains, of_intents])
        return looked_up(task_source(twice, counts, ("domain", "intent")), tables)

    return {part: source(part) for part in PARTS}


def _read(path: Path) -> dict[str, list[Any]]:
    """A compressed JSON file."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path.name} in {path.parent}: put it there.")
    content: dict[str, list[Any]] = json.loads(gzip.decompress(path.read_bytes()))
    return content
