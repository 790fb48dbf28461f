"""Texts in files of every kind, the sets of the papers, and FewRel."""

import gzip
import json
from csv import DictWriter

import jax
import numpy as np
import pytest

from jaxmeta.data import beside, fewrel, short_texts, texts

ROWS = [(f"the {name} number {i}", name) for name in ("ant", "bee", "cat", "dog") for i in range(3)]


def csv(path):
    lines = ["label,text", *(f'{name},"{text}"' for text, name in ROWS)]
    path.write_text("\n".join(lines))


def tsv(path):
    path.write_text("\n".join(["text\tlabel", *map("\t".join, ROWS)]))


def json_lines(path):
    rows = [json.dumps({"text": text, "label": name}) for text, name in ROWS]
    path.write_bytes(gzip.compress("\n".join(rows).encode()))


def class_folders(path):
    for i, (text, name) in enumerate(ROWS):
        (path / name).mkdir(parents=True, exist_ok=True)
        (path / name / f"{i:02}.txt").write_text(text)


@pytest.mark.parametrize(
    ("write", "name"),
    [(csv, "t.csv"), (tsv, "t.tsv"), (json_lines, "t.jsonl.gz"), (class_folders, "t")],
    ids=["csv", "tsv", "json lines", "folders"],
)
def test_every_kind_of_file_is_the_same_tasks(write, name, tmp_path):
    (tmp_path / "expected").mkdir()
    csv(tmp_path / "expected" / "t.csv")
    write(tmp_path / name)
    ours, expected = texts(tmp_path / name, length=5), texts(tmp_path / "expected/t.csv", length=5)
    for part, source in ours.items():
        assert source.classes == {"train": 2, "valid": 1, "test": 1}[part]
        jax.tree.map(np.testing.assert_array_equal, source.data, expected[part].data)
    # Words of other splits are unknown, as there are no vectors.
    assert np.count_nonzero(ours["test"].data.source.examples["tokens"] == 1) == 3


def test_files_of_other_programs_are_read(tmp_path):
    rows = [{"text": text, "label": name} for text, name in ROWS]
    rows[0]["text"] += " \N{LINE SEPARATOR} and more, " + "on " * 50_000
    (tmp_path / "t.json").write_text(json.dumps(rows))
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in rows))
    with (tmp_path / "t.csv").open("w", encoding="utf-8-sig", newline="") as file:
        table = DictWriter(file, ["text", "label"])
        table.writeheader()
        table.writerows(rows)
    kinds = ("json", "jsonl", "csv")
    expected, *others = (texts(tmp_path / f"t.{kind}", length=9) for kind in kinds)
    for other in others:
        for part, source in other.items():
            jax.tree.map(np.testing.assert_array_equal, source.data, expected[part].data)


def test_bad_files_are_told(tmp_path):
    (tmp_path / "old.csv").write_bytes("text,label\ncaf\xe9,a\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"old\.csv is not in UTF-8 .* iconv"):
        texts(tmp_path / "old.csv")
    (tmp_path / "t.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(ValueError, match=r"t\.csv\.gz is no whole gzip file .* fetch it again"):
        texts(tmp_path / "t.csv.gz")
    with pytest.raises(FileNotFoundError, match="There is no file or folder at"):
        texts(tmp_path / "none.csv")
    csv(tmp_path / "t.csv")
    with pytest.raises(ValueError, match=r"Row 1 of .* has no 'headline' \(it has label, text\)"):
        texts(tmp_path / "t.csv", text="headline")
    (tmp_path / "t.jsonl").write_text("{}\nno\n")
    with pytest.raises(ValueError, match="has a line that is no JSON"):
        texts(tmp_path / "t.jsonl")
    (tmp_path / "t.xml").write_text("<a/>")
    with pytest.raises(ValueError, match=r"is no \.csv, \.tsv or \.jsonl"):
        texts(tmp_path / "t.xml")
    class_folders(tmp_path / "t")
    (tmp_path / "t" / "stray.txt").write_text("a")
    with pytest.raises(ValueError, match=r"the text stray\.txt outside of any class folder"):
        texts(tmp_path / "t")
    with pytest.raises(ValueError, match="There is no set of texts 'huff': choose huffpost"):
        short_texts("huff")


@pytest.mark.parametrize(
    ("name", "classes", "test"),
    [
        ("reuters", (15, 5, 11), 220),
        ("banking77", (25, 25, 27), None),
        ("clinc150", (50,) * 3, 7500),
    ],
)
def test_the_sets_of_the_papers(name, classes, test, data_dir):
    vectors = str(data_dir / "glove" / "glove.6B.50d.part.npy")
    sources = short_texts(name, vectors=vectors, data_dir=data_dir)
    assert tuple(source.classes for source in sources.values()) == classes
    tokens = sources["test"].data.source.examples["tokens"]
    assert test is None or len(tokens) == test
    assert np.mean(np.asarray(tokens == 1)) < 0.01, "nearly every word has a vector"


OF_A_PART = pytest.mark.filterwarnings("ignore:.* training is on train_wiki_part")


@OF_A_PART
def test_fewrel_has_no_relation_twice_and_its_entities_stand_where_they_should(data_dir):
    vectors = str(data_dir / "glove" / "glove.6B.50d.part.npy")
    sources = fewrel(vectors=vectors, data_dir=data_dir)
    assert tuple(source.classes for source in sources.values()) == (54, 10, 16)
    raw = json.loads((data_dir / "fewrel" / "val_wiki.json").read_text())
    data = sources["test"].data
    examples = data.source.examples
    rows = [row for each in raw.values() for row in each]
    assert len(rows) == len(examples["tokens"])
    # The vectors of the tokens at the places of the entities are those of their first words.
    words = {"the": np.array([0.418, 0.24968, -0.41242, 0.1217])}
    for i in range(0, len(rows), 500):
        row = rows[i]
        for entity, field in (("h", "head"), ("t", "tail")):
            place = int(examples[field][i])
            assert place == row[entity][2][0][0]
            first = row["tokens"][place].lower()
            token = int(examples["tokens"][i, place])
            assert words.setdefault(f"number of {first}", token) == token
        end = int(np.count_nonzero(examples["tokens"][i]))
        assert end == len(row["tokens"])
    the = next(
        int(examples["tokens"][i, row["tokens"].index("the")])
        for i, row in enumerate(rows)
        if "the" in row["tokens"]
    )
    np.testing.assert_allclose(data.tables["words"][the, :4], words["the"], atol=2e-3)
    # Numbers of trained words do not depend on what is tested.
    other = fewrel(test="val_pubmed", vectors=vectors, length=40, data_dir=data_dir)
    np.testing.assert_array_equal(
        other["train"].data.source.examples["tokens"],
        sources["train"].data.source.examples["tokens"],
    )


@OF_A_PART
def test_unlabeled_sentences_of_another_domain_beside_those_of_training(data_dir):
    sources = fewrel(unlabeled="pubmed_unsupervised", length=60, data_dir=data_dir)
    assert {*sources} == {"train", "valid", "test"}
    train, alone = sources["train"], fewrel(length=60, data_dir=data_dir)["train"]
    assert train.classes == alone.classes == 54
    task = jax.jit(train.batches(8))(train.data, jax.random.key(0))
    assert task["target"].y.tolist() == [-1] * 8
    assert (task["source"].y >= 0).all()
    assert len(train.data.target.examples["tokens"]) == 2_500
    draw = jax.jit(beside(train.episodes(5, 1, 2), train, size=4))
    both = draw(train.data, jax.random.key(0))
    assert both["episode"].query.y.shape == (10,)
    assert both["batch"]["target"].x["tokens"].shape == (4, 60)


@OF_A_PART
def test_a_part_of_fewrel(data_dir):
    with pytest.warns(UserWarning, match="has no train_wiki.json: training is on train_wiki_part"):
        sources = fewrel(test="val_nyt", shared_with="val_wiki", sentences=20, data_dir=data_dir)
    assert sources["test"].classes == 8
    assert sources["train"].data.counts.tolist() == [20] * 54
    # Held-out sentences are of the training relations, and none of them is trained on.
    sources = fewrel(test="held_out", held_out=10, data_dir=data_dir)
    assert sources["test"].data.counts.tolist() == [10] * 54
    train, test = (
        {row.tobytes() for row in np.asarray(sources[part].data.examples["tokens"])}
        for part in ("train", "test")
    )
    assert len(train & test) < 5, "but for sentences that occur twice"
    sources = fewrel(
        "val_pubmed", ["pubmed_unsupervised", "val_nyt"], "val_semeval", data_dir=data_dir
    )
    assert sources["train"].data.counts.tolist() == [2500] + [100] * 25
    sources = fewrel("val_pubmed", ["train_wiki"], "val_semeval", data_dir=data_dir)
    assert sources["train"].classes == 64
    # Relations that two files have in common have the sentences of both.
    sources = fewrel("val_pubmed", ["val_nyt", "val_wiki"], "val_semeval", data_dir=data_dir)
    counts = sources["train"].data.counts
    assert sorted(set(counts.tolist())) == [100, 700, 800]
    assert counts.tolist().count(800) == 8
    with pytest.raises(ValueError, match="train and test parts have 8 relations in common"):
        fewrel(train=["val_nyt"], data_dir=data_dir)
    with pytest.raises(ValueError, match="No sentence of 'held_out' is left to test"):
        fewrel(test="held_out", data_dir=data_dir)
    with pytest.raises(ValueError, match="held_out is 200, which leaves relations without"):
        fewrel(held_out=200, data_dir=data_dir)
    with pytest.raises(FileNotFoundError, match=r"There is no val_x\.json in"):
        fewrel(test="val_x", data_dir=data_dir)
