"""Glyphs: pure functions of keys, as hard as Omniglot, and rendered without regard to the grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.data.glyphs import STROKES, _render, draw, glyphs

# One process makes the sources for all.
pytestmark = pytest.mark.xdist_group("glyphs")
# Programs are compiled per total number of characters, so the tests keep to one total.
SMALL = {"classes": (120, 3, 4), "examples": 6}


@pytest.fixture(scope="module")
def sources():
    return glyphs(**SMALL)


def page(source):
    images = np.asarray(source.data.examples)
    return images.reshape(-1, SMALL["examples"], *images.shape[1:])


def test_draw_is_ink_on_paper(sources):
    ink = draw(jax.random.key(0), jax.random.key(1))
    assert ink.shape == (28, 28, 1)
    assert ink.dtype == jnp.float32
    assert 0 <= ink.min() < 0.01
    assert 0.99 < ink.max() <= 1
    # Every character leaves a trace, and most of the paper blank, as Omniglot's do (8%).
    amount = page(sources["train"]).mean(axis=(-1, -2, -3)) / 255
    assert amount.min() > 0.005
    assert amount.max() < 0.3
    assert 0.06 < amount.mean() < 0.1


def test_drawings_stay_on_the_paper(sources):
    images = page(sources["train"]) / 255.0
    edges = [images[..., 0, :, :], images[..., -1, :, :], images[..., 0, :], images[..., -1, :]]
    # A line that crossed the edge would leave full ink there.
    assert max(edge.max() for edge in edges) < 0.9
    assert np.mean([edge.mean() for edge in edges]) < 0.005


def test_a_source_holds_single_drawings(sources):
    test = jax.random.fold_in(jax.random.key(0), 2)
    for class_, example in [(0, 0), (1, 5), (3, 2)]:
        character, hands = jax.random.split(jax.random.fold_in(test, class_))
        alone = 255 * draw(character, jax.random.fold_in(hands, example))
        # One level of gray, for rounding.
        np.testing.assert_allclose(page(sources["test"])[class_, example], alone, atol=1)


def test_the_size_of_the_paper_only_changes_the_resolution():
    for i in range(3):
        keys = jax.random.key(i), jax.random.key(i + 9)
        fine = np.asarray(draw(*keys, 84)).reshape(28, 3, 28, 3).mean((1, 3))
        coarse = np.asarray(draw(*keys))[..., 0]
        assert np.abs(fine - coarse).mean() < 0.02
        assert np.corrcoef(fine.ravel(), coarse.ravel())[0, 1] > 0.97


def test_render_draws_a_line_at_its_distance():
    line = np.stack([np.linspace(4, 24, 16), np.full(16, 10.25)], axis=-1)
    strokes = np.stack([line] * STROKES).astype(np.float32)
    render = jax.jit(_render, static_argnames="size")
    ink = np.asarray(render(strokes, np.arange(STROKES) < 1, np.float32(0.6), 28))
    # Rows have their centers at 8.5, 9.5, 10.5 and 11.5: clip(0.6 + 0.5 - distance).
    np.testing.assert_allclose(ink[8:12, 14], [0.0, 0.35, 0.85, 0.0], atol=1e-5)
    # 2 pixels beyond its end there is nothing left of it.
    assert ink[:, 26:].max() == 0
    assert render(strokes, np.arange(STROKES) < 0, np.float32(0.6), 28).max() == 0


def test_same_seed_same_bits_and_other_seed_other_characters(sources):
    again, other = glyphs(**SMALL), glyphs(**SMALL, seed=1)
    for split, source in sources.items():
        np.testing.assert_array_equal(page(source), page(again[split]))
        assert (page(source) != page(other[split])).any(axis=(2, 3, 4)).all()


def test_no_drawing_is_repeated_within_or_between_splits(sources):
    drawings = np.concatenate([page(s).reshape(-1, 28 * 28) for s in sources.values()])
    assert len(drawings) == 127 * SMALL["examples"]
    assert len(np.unique(drawings, axis=0)) == len(drawings)


def test_first_characters_do_not_depend_on_how_many_there_are(sources):
    others = glyphs(classes=(2, 123, 2), examples=6)
    for split, source in others.items():
        both = min(len(page(source)), len(page(sources[split])))
        np.testing.assert_array_equal(page(source)[:both], page(sources[split])[:both])


def test_characters_are_as_hard_to_tell_apart_as_omniglot(sources):
    # Cosine nearest neighbor in 5-way 1-shot: Omniglot 49%, chance 20%.
    source = sources["train"]
    sampler = source.episodes(5, 1, 5)

    def accuracy(key):
        support, query = sampler(source.data, key)
        a, b = (x.reshape(-1, 28 * 28) for x in (support.x, query.x))
        cosine = b @ (a / jnp.linalg.norm(a, axis=-1, keepdims=True)).T
        return jnp.mean((support.y[jnp.argmax(cosine, axis=-1)] == query.y).astype(jnp.float32))

    keys = jax.random.split(jax.random.key(0), 300)
    assert 0.44 < jax.jit(lambda keys: jax.lax.map(accuracy, keys).mean())(keys) < 0.58


def test_rotations_make_four_classes_of_each():
    turned = glyphs(**SMALL, rotations=True)["valid"]
    turned.episodes(12, 1, 1)
    with pytest.raises(ValueError, match=r"13 ways .* has 12"):
        turned.episodes(13, 1, 1)


@pytest.mark.parametrize("wrong", [{"classes": (1, 0, 1)}, {"examples": 0}, {"size": 0}])
def test_nothing_cannot_be_drawn(wrong):
    with pytest.raises(ValueError, match="1 or more"):
        glyphs(**wrong)
