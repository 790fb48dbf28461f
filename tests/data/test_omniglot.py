import io
import zipfile

import jax
import numpy as np
import pytest
from PIL import Image

from jaxmeta.data import omniglot
from jaxmeta.data.omniglot import split_characters


def characters(data_dir, archive):
    with zipfile.ZipFile(data_dir / f"omniglot/{archive}.zip") as opened:
        members = [name for name in opened.namelist() if name.endswith(".png")]
    return sorted({"/".join(name.split("/")[1:3]) for name in members})


@pytest.mark.parametrize(
    ("split", "sizes"), [("characters", (1100, 100, 423)), ("vinyals", (1028, 172, 423))]
)
def test_characters_are_shuffled_over_all_alphabets(data_dir, split, sizes):
    names = [characters(data_dir, f"images_{part}") for part in ("background", "evaluation")]
    parts = split_characters(split, *names, seed=0)
    assert tuple(len(parts[part]) for part in ("train", "valid", "test")) == sizes
    assert sorted(parts["train"] + parts["valid"] + parts["test"]) == sorted(names[0] + names[1])
    assert len({name.split("/")[0] for name in parts["test"]}) == 50
    assert split_characters(split, *[n[::-1] for n in names], seed=0) == parts
    assert split_characters(split, *names, seed=1) != parts
    with pytest.raises(ValueError, match="1623 characters and 1622 were found"):
        split_characters(split, names[0][1:], names[1], seed=0)


@pytest.mark.parametrize(
    ("split", "archive", "alphabets"),
    [
        ("alphabets", "images_background", (24, 6, 20)),
        ("background_small1", "images_background_small1", (4, 1, 20)),
        ("background_small2", "images_background_small2", (4, 1, 20)),
    ],
)
def test_alphabets_are_kept_apart(data_dir, split, archive, alphabets):
    background, evaluation = (characters(data_dir, a) for a in (archive, "images_evaluation"))
    parts = split_characters(split, background, evaluation, seed=0)
    found = [{name.split("/")[0] for name in parts[part]} for part in ("train", "valid", "test")]
    assert tuple(len(part) for part in found) == alphabets
    assert len(set.union(*found)) == sum(alphabets)
    assert sorted(parts["train"] + parts["valid"]) == background
    assert parts["test"] == evaluation


def test_images_are_ink_on_paper_and_disjoint_between_parts(data_dir):
    sources = omniglot("background_small1", data_dir=data_dir, rotations=False)
    drawings = {}
    for part, source in sources.items():
        images = np.asarray(source.data.examples)
        assert images.shape[1:] == (28, 28, 1)
        assert np.all(source.data.counts == 20)
        assert 0.05 < images.mean() / 255 < 0.2
        assert np.mean(images[:, 0, 0] == 0) > 0.99
        drawings[part] = {image.tobytes() for image in images}
    assert not drawings["train"] & drawings["valid"]
    assert not drawings["train"] & drawings["test"]
    # One drawing, read by hand.
    with zipfile.ZipFile(data_dir / "omniglot/images_evaluation.zip") as archive:
        content = archive.read(
            next(
                n for n in archive.namelist() if "Tibetan/character07/" in n and n.endswith(".png")
            )
        )
    paper = Image.open(io.BytesIO(content)).convert("L").resize((28, 28), Image.Resampling.LANCZOS)
    assert (255 - np.asarray(paper)).tobytes() in drawings["test"]


def test_an_episode_of_the_usual_split(data_dir, monkeypatch):
    monkeypatch.setenv("JAXMETA_DATA_DIR", str(data_dir))
    sources = omniglot()
    assert [len(sources[part].data.counts) for part in sources] == [1100, 100, 423]
    source = sources["test"]
    keys = jax.random.split(jax.random.key(0), 4)
    sampler = jax.jit(jax.vmap(source.episodes(20, 1, 5), (None, 0)))
    support, query = sampler(source.data, keys)
    assert support.x.shape == (4, 20, 28, 28, 1)
    assert query.x.shape == (4, 100, 28, 28, 1)
    assert float(query.x.max()) == 1
    assert float(query.x.min()) == 0
    with pytest.raises(ValueError, match="1693 ways needs 1693 classes and this split has 1692"):
        source.episodes(423 * 4 + 1, 1, 1)
    with pytest.raises(
        ValueError, match=r"needs 21 examples of each class and '.*/character.*' has 20"
    ):
        source.episodes(5, 5, 16)


def test_an_unknown_split_or_folder_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match="no split 'letters'; choose one of characters, vinyals, al"
    ):
        omniglot("letters")
    with pytest.raises(FileNotFoundError, match=r"no folder .*absent; set --data_dir or JAXMETA"):
        omniglot(data_dir=tmp_path / "absent")
