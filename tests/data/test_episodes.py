import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.data import class_source, decode_rotated_image
from tests.data.marked import COUNTS, close, draws, marked_source, marks, same


def draw(source, seed, *arguments):
    return jax.jit(source.episodes(*arguments))(source.data, jax.random.key(seed))


def test_an_episode_has_different_classes_and_different_examples_in_class_order():
    source = marked_source()
    support, query = draws(source, 500, source.episodes(3, 2, 3))
    assert support.x.shape == (500, 6, 3, 3, 1)
    assert query.x.shape == (500, 9, 3, 3, 1)
    assert support.x.dtype == support.mask.dtype == jnp.float32
    assert support.y.dtype == jnp.int32
    assert np.all(support.y == np.repeat(np.arange(3), 2))
    assert np.all(query.y == np.repeat(np.arange(3), 3))
    assert np.all(support.mask == 1)
    assert np.all(query.mask == 1)
    x = np.concatenate(
        [support.x.reshape(500, 3, 2, 3, 3, 1), query.x.reshape(500, 3, 3, 3, 3, 1)], 2
    )
    classes, numbers = marks(x)
    assert np.all(classes == classes[:, :, :1])
    assert all(len(set(row)) == 3 for row in classes[:, :, 0])
    assert all(len(set(row)) == 5 for row in numbers.reshape(-1, 5))
    assert np.all(numbers < COUNTS[classes])
    np.testing.assert_allclose(x[..., 2, 2, 0], 100 / 255, rtol=1e-6)


def test_classes_and_examples_are_uniform_in_every_place():
    source = marked_source()
    support, query = draws(source, 4000, source.episodes(2, 1, 1))
    first, _ = marks(support.x[:, 0])
    second, number = marks(query.x[:, 1])
    pairs = np.zeros((6, 6))
    np.add.at(pairs, (first, second), 1)
    assert np.all(np.diag(pairs) == 0)
    assert close(pairs[~np.eye(6, dtype=bool)], 1 / 30, len(first))
    for c, count in enumerate(COUNTS):
        drawn = np.bincount(number[second == c], minlength=count)
        assert len(drawn) == count
        assert close(drawn, 1 / count, drawn.sum())


def test_padding_adds_only_masked_places():
    source = marked_source()
    compiled = []

    @jax.jit
    def padded(ways, shots, key):
        compiled.append(1)
        return source.episodes(ways, shots, 2, max_ways=5, max_shots=3)(source.data, key)

    for ways, shots in [(1, 3), (3, 1), (5, 3)]:
        seed = ways + 10 * shots
        plain = draw(source, seed, ways, shots, 2)
        wide = padded(ways, shots, jax.random.key(seed))
        assert wide.support.x.shape == (15, 3, 3, 1)
        assert wide.query.x.shape == (10, 3, 3, 1)
        for few, many in zip(plain, wide, strict=True):
            real = np.asarray(many.mask) == 1
            assert same(few, jax.tree.map(lambda leaf, real=real: leaf[real], many))
            assert np.all(np.asarray(many.x)[~real] == 0)
            assert np.all(np.asarray(many.y)[~real] == 0)
    assert len(compiled) == 1
    assert same(padded(3, 1, jax.random.key(8)), draw(source, 8, 3, 1, 2, 5, 3))


def test_there_may_be_fewer_classes_and_images_than_padding():
    source = marked_source(np.array([3, 4]))
    episode = draw(source, 0, 2, 1, 2, 7, 9)
    plain = draw(source, 0, 2, 1, 2)
    assert episode.support.x.shape[0] == 63
    assert np.array_equal(episode.support.x[np.asarray(episode.support.mask) == 1], plain.support.x)
    assert np.array_equal(episode.query.x[np.asarray(episode.query.mask) == 1], plain.query.x)


def test_queries_do_not_depend_on_shots():
    source = marked_source()
    one, three = (draw(source, 3, 4, k, 2) for k in (1, 3))
    assert same(one.query, three.query)


def test_vmap_draws_what_a_loop_draws():
    source = marked_source(rotations=True)
    sampler = jax.jit(source.episodes(4, 2, 2))
    keys = jax.random.split(jax.random.key(1), 3)
    loop = [sampler(source.data, key) for key in keys]
    together = jax.vmap(sampler, (None, 0))(source.data, keys)
    assert same(together, jax.tree.map(lambda *leaves: np.stack(leaves), *loop))


def test_the_images_are_an_argument_and_no_constant():
    source = marked_source(rotations=True)
    program = jax.make_jaxpr(source.episodes(4, 2, 2))(source.data, jax.random.key(0))
    assert sum(np.size(constant) for constant in program.consts) < 10


def test_quarter_turns_are_classes_of_their_own():
    images = np.random.RandomState(0).randint(0, 256, (2 * 5, 4, 4, 2)).astype(np.uint8)
    source = class_source(images, [5, 5], ["a", "b"], decode=decode_rotated_image, variants=4)
    turned = {
        np.rot90(image, r).tobytes(): (i // 5, r, i % 5)
        for i, image in enumerate(images)
        for r in range(4)
    }
    support, query = draws(source, 5, source.episodes(8, 2, 3))
    parts = [support.x.reshape(5, 8, 2, 4, 4, 2), query.x.reshape(5, 8, 3, 4, 4, 2)]
    for x in np.concatenate(parts, axis=2):
        found = [
            [turned[image.tobytes()] for image in row] for row in np.rint(x * 255).astype(np.uint8)
        ]
        assert all(len({(c, r) for c, r, _ in row}) == 1 for row in found)
        assert {row[0][:2] for row in found} == {(c, r) for c in range(2) for r in range(4)}
        assert all({i for *_, i in row} == set(range(5)) for row in found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((7, 1, 1), "7 ways .* 7 .* this split has 6; ask for fewer, or give it more"),
        ((2, 3, 3), "3 shots and 3 queries .* 6 .* 'class 0' has 5; ask for fewer, or leave"),
        ((0, 1, 1), "ways is 0: give .* 1 or more"),
        ((2.5, 1, 1), "ways is 2.5: give .* 1 or more"),
        ((2, 0, 1), "shots is 0: give .* 1 or more"),
        ((2, 1, -1), "queries is -1: give .* 1 or more"),
        ((3, 1, 1, 2), "max_ways is 2 and ways is 3; raise"),
        ((3, 2, 1, None, 1), "max_shots is 1 and shots is 2; raise"),
    ],
)
def test_impossible_episodes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        marked_source().episodes(*arguments)


def test_traced_numbers_are_checked_by_their_maximum():
    source = marked_source()
    with pytest.raises(ValueError, match="ways is traced; give max_ways"):
        jax.eval_shape(lambda ways: source.episodes(ways, 1, 1)(source.data, jax.random.key(0)), 2)
    with pytest.raises(ValueError, match=r"4 shots and 2 queries .* 6 .* has 5"):
        jax.eval_shape(lambda shots: source.episodes(2, shots, 2, max_shots=4), 1)


def untidy(number, **options):
    """Many tasks of a source whose classes have at least nine examples."""
    source = marked_source(np.full(8, 12))
    return draws(source, number, source.episodes(**{"queries": 3, **options}))


def test_ways_and_shots_are_drawn_from_their_ranges():
    support, query = untidy(400, ways=(2, 4), shots=(1, 3))
    assert support.x.shape == (400, 12, 3, 3, 1)
    shown = support.mask.reshape(400, 4, 3)
    shots, ways = shown.sum(axis=2), (shown.sum(axis=2) > 0).sum(axis=1)
    counts = np.array([[row.max(), way] for row, way in zip(shots, ways, strict=True)])
    assert all(set(row[row > 0]) == {row.max()} for row in shots)
    # Both ends, and nothing else; each about as often as the others.
    for values, least in ((counts[:, 0], 1), (counts[:, 1], 2)):
        found, often = np.unique(values, return_counts=True)
        assert found.tolist() == [least, least + 1, least + 2]
        assert often.min() > 90
    assert np.array_equal(query.mask.sum(axis=1), 3 * ways)


def test_imbalanced_classes_have_shots_of_their_own():
    support, query = untidy(400, ways=3, shots=(1, 4), imbalanced=True)
    shots = support.mask.reshape(400, 3, 4).sum(axis=2)
    assert set(np.unique(shots)) == {1, 2, 3, 4}
    assert (shots.min(axis=1) < shots.max(axis=1)).mean() > 0.8
    assert np.abs(np.corrcoef(shots.T) - np.eye(3)).max() < 0.2
    assert (query.mask == 1).all()


def test_unlabeled_examples_and_distractors_follow_the_labeled():
    support, query = untidy(50, ways=2, shots=2, unlabeled=3, distractors=1)
    assert support.y[0].tolist() == [0, 0, 1, 1] + [-1] * 9
    assert (support.y == support.y[:1]).all()
    assert (support.mask == 1).all()
    classes, numbers = marks(support.x)
    of_ways, of_queries = marks(query.x)
    known, unknown = classes[:, :4], classes[:, 4:].reshape(50, 3, 3)
    assert np.array_equal(known, np.repeat(of_ways[:, ::3], 2, axis=1))
    assert (unknown == unknown[:, :, :1]).all()
    distractor, ways = unknown[:, 0, 0], unknown[:, 1:, 0]
    assert np.array_equal(ways, of_ways[:, ::3])
    assert not (distractor[:, None] == ways).any()
    # No example is shown twice.
    for way in range(2):
        same_class = [numbers[:, 2 * way : 2 * way + 2], numbers[:, 7 + 3 * way : 10 + 3 * way]]
        every = np.concatenate([*same_class, of_queries[:, 3 * way : 3 * way + 3]], axis=1)
        assert all(len(set(row)) == 8 for row in every)
    plain = untidy(50, ways=2, shots=2)
    assert same(untidy(50, ways=2, shots=2, unlabeled=3).query, plain.query)


def test_queries_from_outside_come_last_and_are_of_no_way():
    support, query = untidy(400, ways=3, shots=2, outside=5)
    assert query.y[0].tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 5
    assert (query.mask == 1).all()
    classes, numbers = marks(query.x)
    ways, strangers = classes[:, :9:3], classes[:, 9:]
    assert not (strangers[:, :, None] == ways[:, None]).any()
    # Any of the five other classes, and any of its examples, as often as any other.
    assert close(np.bincount(strangers.ravel(), minlength=8), 1 / 8, strangers.size)
    assert close(np.bincount(numbers[:, 9:].ravel(), minlength=12), 1 / 12, strangers.size)
    plain = untidy(400, ways=3, shots=2)
    assert same(support, plain.support)
    assert same(jax.tree.map(lambda leaf: leaf[:, :9], query), plain.query)


def test_padding_takes_no_examples_and_no_classes_from_the_unlabeled():
    """As many classes and examples as there are, and places for more."""
    source = marked_source(np.full(4, 6))
    sampler = source.episodes(2, 1, 2, max_ways=4, max_shots=5, unlabeled=3, distractors=2)
    support, query = jax.tree.map(np.asarray, jax.jit(sampler)(source.data, jax.random.key(0)))
    classes, numbers = marks(support.x)
    assert support.mask.reshape(-1, 1)[:20].sum() == 2
    unknown = slice(20, None)
    assert support.mask[unknown].tolist() == [1] * 12 + [0] * 6
    assert len(set(classes[20:32])) == 4
    pairs = set(zip(classes[20:32], numbers[20:32], strict=True))
    assert len(pairs) == 12
    assert not pairs & set(zip(*(row[:4] for row in marks(query.x)), strict=True))
    assert (support.x[32:] == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ways": (3, 2), "shots": 1}, r"range of ways is \(3, 2\); give \(least, most\)"),
        ({"ways": 2, "shots": (0, 2)}, r"range of shots is \(0, 2\)"),
        ({"ways": (2,), "shots": 1}, r"range of ways is \(2,\); give \(least, most\)"),
        ({"ways": 2, "shots": (1, 2.5)}, r"range of shots is \(1, 2.5\); give"),
        ({"ways": 2, "shots": 1, "imbalanced": True}, "shots is 1, .* give a range"),
        ({"ways": 2, "shots": 1, "distractors": 1}, "distractors is 1 but unlabeled is 0; give"),
        ({"ways": 2, "shots": 1, "unlabeled": 2.5}, "unlabeled is 2.5: give a whole number"),
        ({"ways": 2, "shots": 1, "unlabeled": 9}, "9 unlabeled and 3 queries .* 13 .* has 12"),
        ({"ways": 7, "shots": 1, "unlabeled": 1, "distractors": 2}, "7 ways and 2 .* 9 .* has 8"),
        ({"ways": 8, "shots": 1, "outside": 1}, "8 ways and queries from outside .* 9 .* has 8"),
    ],
)
def test_impossible_options_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        untidy(1, **options)
