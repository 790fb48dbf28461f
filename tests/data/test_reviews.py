"""Reviews of several domains, on the real files and on small ones made here."""

import zipfile

import jax
import numpy as np
import pytest

from jaxmeta.data import read_vectors, review_domains, reviews, tokenize
from jaxmeta.data.reviews import DOMAINS, read_domain

SIZES = dict.fromkeys(DOMAINS, 1600) | {
    "baby": 1500,
    "camera_photo": 1597,
    "electronics": 1598,
    "magazines": 1570,
    "software": 1515,
}


@pytest.fixture(scope="module")
def raw(data_dir):
    """The texts of all domains, as published."""
    return {domain: read_domain(data_dir / "fdu_mtl", domain, leaked=True) for domain in DOMAINS}


def words_of(domain):
    """Rows whose only frequent words are 'good', 'bad' and the name of the domain."""
    return [f"{i % 2}\t{('bad', 'good')[i % 2]} {domain} number{i}" for i in range(300)]


def files(domain):
    return {
        f"{domain}.task.train": "\n".join(words_of(domain)),
        f"{domain}.task.test": f"1\ta good {domain}\n0\tbad\n1\tgood {domain} number1",
        f"{domain}.task.unlabel": f"pretty {domain}\n\nPretty!\n",
    }


@pytest.fixture
def root(tmp_path):
    (tmp_path / "fdu_mtl").mkdir()
    for domain in ("books", "music"):
        for name, text in files(domain).items():
            (tmp_path / "fdu_mtl" / name).write_text(text)
    return tmp_path


def tokens(source):
    return np.asarray(source.data.source.examples["tokens"])


def test_the_domains_are_those_of_the_paper(raw):
    for domain, parts in raw.items():
        sizes = {part: [len(each) for each in texts.values()] for part, texts in parts.items()}
        assert sum(sizes["train"]) == SIZES[domain] - 200
        assert sum(sizes["valid"]) == 200
        assert sum(sizes["test"]) == 400
        assert sizes["unlabeled"] == [475 if domain == "software" else 2000]
        for part in ("train", "valid", "test"):
            assert [*parts[part]] == ["negative", "positive"]
            assert 0.4 < sizes[part][0] / sum(sizes[part]) < 0.6, "balanced"
        whole = np.add(sizes["train"], sizes["valid"]) + sizes["test"]
        assert abs(whole[0] - whole[1]) <= 130
    assert any("great" in text for text in raw["books"]["train"]["positive"][:10])


def test_no_text_of_the_test_part_is_trained_on_unless_leaked(raw, data_dir):
    def flat(parts, *names):
        return [text for name in names for texts in parts[name].values() for text in texts]

    copied = removed = 0
    for domain, parts in raw.items():
        clean = read_domain(data_dir / "fdu_mtl", domain)
        tested = flat(parts, "test")
        trained, kept = (set(flat(each, "train", "valid")) for each in (parts, clean))
        copied += sum(text in trained for text in tested)
        assert not kept & set(tested)
        assert trained - set(tested) == kept, "nothing else is gone"
        removed += sum(len(flat(e, "train", "valid")) * s for e, s in ((parts, 1), (clean, -1)))
        assert clean["test"] == parts["test"]
        assert clean["unlabeled"] == parts["unlabeled"]
    assert (copied, removed) == (538, 694)


def test_real_domains_as_tasks(raw, data_dir):
    vectors = "glove/glove.6B.50d.part.npy"
    sources = review_domains(["MR", "apparel"], vectors=vectors, data_dir=data_dir)
    for parts in sources.values():
        assert [*parts] == ["train", "valid", "test", "unlabeled"]
        assert [source.classes for source in parts.values()] == [2, 2, 2, 1]
        assert np.mean(tokens(parts["test"]) == 1) < 0.01, "nearly every word has a vector"
        for part, source in parts.items():
            for name, table in source.data.tables.items():
                assert table is sources["MR"]["train"].data.tables[name], (part, "one for all")
    assert sources["MR"]["test"].data.source.counts.tolist() == [192, 208]
    source = sources["apparel"]["train"]
    batch = jax.jit(source.batches(4))(source.data, jax.random.key(0))
    assert batch.x["tokens"].shape == batch.x["weights"].shape == (4, 128)
    assert batch.x["words"].shape == (4, 128, 50)
    # Words have their own vectors.
    text = raw["apparel"]["test"]["negative"][0]
    words = tokenize(text)[:40]
    known, expected = read_vectors(str(data_dir / vectors), words)
    rows = np.asarray(source.data.tables["words"])[tokens(sources["apparel"]["test"])[0, :40]]
    assert len(known) > 15
    for word, row in zip(known, expected, strict=True):
        np.testing.assert_array_equal(rows[words.index(word)], row)


def test_a_word_has_one_number_in_all_domains(root):
    sources = review_domains(["books", "music"], length=4, data_dir=root)
    books, music = (tokens(sources[domain]["test"]) for domain in ("books", "music"))
    # The rows are "bad", "a good <domain>" and "good <domain> number1".
    unknown, good, _, padding = books[1].tolist()
    assert (unknown, padding) == (1, 0), "words of the test part alone are unknown"
    assert good == music[1, 1] == books[2, 0] == music[2, 0]
    assert books[0].tolist() == music[0].tolist()
    assert books[1, 2] == books[2, 1] != music[1, 2] == music[2, 1]
    # Words of unlabeled texts are known in both.
    pretty = [tokens(sources[domain]["unlabeled"])[1].tolist() for domain in sources]
    assert pretty[0] == pretty[1]
    assert min(pretty[0][:2]) > 1
    swapped = review_domains(["music", "books"], length=4, data_dir=root)
    for domain, parts in sources.items():
        for part, source in parts.items():
            jax.tree.map(np.testing.assert_array_equal, source.data, swapped[domain][part].data)
    # The domain's own row of the test part, "good books number1", is left out of the training part.
    assert sources["books"]["train"].data.source.counts.tolist() == [50, 49]
    leaked = review_domains(["books"], leaked=True, data_dir=root)["books"]
    assert leaked["train"].data.source.counts.tolist() == [50, 50]


def test_one_domain_is_several_of_which_there_is_one(root):
    ours = reviews("music", length=5, data_dir=root)
    expected = review_domains(["music"], length=5, data_dir=root)["music"]
    for part, source in ours.items():
        jax.tree.map(np.testing.assert_array_equal, source.data, expected[part].data)
    weights = ours["train"].data.tables["weights"]
    assert weights.dtype == np.float32
    assert weights[0] == 0


def test_zips_are_read_like_the_files_in_them(root):
    folder = root / "fdu_mtl"
    expected = read_domain(folder, "books")
    with (
        zipfile.ZipFile(folder / "a.zip", "w") as labeled,
        zipfile.ZipFile(folder / "b.zip", "w") as unlabeled,
    ):
        for name, text in files("books").items():
            (unlabeled if name.endswith("unlabel") else labeled).writestr(name, text)
            (folder / name).unlink()
    assert read_domain(folder, "books") == expected


def test_old_encodings_and_odd_characters_do_not_break_rows(root):
    path = root / "fdu_mtl" / "books.task.test"
    path.write_bytes(
        "1\tcaf\N{LATIN SMALL LETTER E WITH ACUTE} \x85 good\r\n0\tbad".encode("latin-1")
    )
    test = read_domain(root / "fdu_mtl", "books")["test"]
    assert test == {
        "negative": ["bad"],
        "positive": ["caf\N{LATIN SMALL LETTER E WITH ACUTE} \x85 good"],
    }


def test_what_is_wrong_is_told(root, tmp_path):
    with pytest.raises(ValueError, match="'book' is no domain of reviews: choose of MR, apparel"):
        reviews("book", data_dir=root)
    with pytest.raises(ValueError, match="'books' is no domain of reviews"):
        review_domains("books", data_dir=root)
    with pytest.raises(FileNotFoundError, match="FDU-MTL is not there: set --data_dir or JAXMETA_"):
        reviews("books")
    with pytest.raises(FileNotFoundError, match=r"There is no dvd\.task\.train in .* or its zips"):
        reviews("dvd", data_dir=root)
    with pytest.raises(ValueError, match="length is 0: give a whole number, 1 or more"):
        reviews("books", length=0, data_dir=root)
    path = root / "fdu_mtl" / "books.task.train"
    for row in ("2\tfine", "1 fine"):
        path.write_text(f"1\tgood\n{row}\n")
        with pytest.raises(ValueError, match=rf"Row 2 of books\.task\.train in .* '{row}' and not"):
            reviews("books", data_dir=root)
    path.unlink()
    (root / "fdu_mtl" / "a.zip").write_bytes(b"<html>")
    with pytest.raises(ValueError, match=r"a\.zip cannot be read \(.*\): fetch it again"):
        reviews("books", data_dir=root)
