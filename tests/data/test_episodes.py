import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.data import class_source, make_batch, make_episode

COUNTS = np.array([5, 9, 6, 5, 7, 12])


def marked_source(counts=COUNTS, rotations=False):
    """Images that tell, in their first two pixels, their class and their number in it."""
    marks = [(c, i) for c, count in enumerate(counts) for i in range(count)]
    images = np.full((len(marks), 3, 3, 1), 100, np.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = np.transpose(marks)
    return class_source(images, counts, [f"class {c}" for c in range(len(counts))], rotations)


def marks(x):
    """Class and number of every image ``[..., 3, 3, 1]``."""
    pixels = np.rint(np.asarray(x) * 255).astype(int)
    return pixels[..., 0, 0, 0], pixels[..., 0, 1, 0]


def draw(source, seed, *arguments):
    return jax.jit(source.episodes(*arguments))(source.data, jax.random.key(seed))


def draws(source, number, *arguments):
    keys = jax.random.split(jax.random.key(0), number)
    sampler = jax.vmap(source.episodes(*arguments), (None, 0))
    return jax.tree.map(np.asarray, jax.jit(sampler)(source.data, keys))


def same(a, b):
    return all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_an_episode_has_different_classes_and_different_examples_in_class_order():
    source = marked_source()
    support, query = draws(source, 500, 3, 2, 3)
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
    support, query = draws(source, 4000, 2, 1, 1)
    first, _ = marks(support.x[:, 0])
    second, number = marks(query.x[:, 1])

    def close(observed, probability, trials):
        spread = np.sqrt(probability * (1 - probability) * trials)
        return np.all(abs(observed - probability * trials) < 4.5 * spread)

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
    source = class_source(images, np.array([5, 5]), ["a", "b"], rotations=True)
    turned = {
        np.rot90(image, r).tobytes(): (i // 5, r, i % 5)
        for i, image in enumerate(images)
        for r in range(4)
    }
    support, query = draws(source, 5, 8, 2, 3)
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
        ((7, 1, 1), "7 ways .* this split has 6; ask for fewer ways, or give .* more classes"),
        ((2, 3, 3), "3 shots and 3 queries needs 6 images a class and 'class 0' has 5"),
        ((0, 1, 1), "one of its ways and got 0"),
        ((2, 0, 1), "one of its shots and got 0"),
        ((2, 1, -1), "one of its queries and got -1"),
        ((3, 1, 1, 2), "max_ways=2 is below ways=3"),
        ((3, 2, 1, None, 1), "max_shots=1 is below shots=2"),
    ],
)
def test_impossible_episodes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        marked_source().episodes(*arguments)


def test_traced_numbers_are_checked_by_their_maximum():
    source = marked_source()
    with pytest.raises(ValueError, match="number of ways is traced; give max_ways"):
        jax.eval_shape(lambda ways: source.episodes(ways, 1, 1)(source.data, jax.random.key(0)), 2)
    with pytest.raises(ValueError, match="4 shots and 2 queries needs 6 images"):
        jax.eval_shape(lambda shots: source.episodes(2, shots, 2, max_shots=4), 1)


@pytest.mark.parametrize(
    ("images", "counts", "names", "rotations", "message"),
    [
        (np.zeros((2, 3, 3, 1), np.float32), [2], ["a"], False, r"float32\[2, 3, 3, 1\]"),
        (np.zeros((2, 3, 3), np.uint8), [2], ["a"], False, r"uint8\[2, 3, 3\]"),
        (np.zeros((2, 3, 3, 1), np.uint8), [3], ["a"], False, "2 images, counts that sum to 3"),
        (np.zeros((2, 3, 3, 1), np.uint8), [2], ["a", "b"], False, "1 classes and 2 names"),
        (np.zeros((2, 3, 4, 1), np.uint8), [2], ["a"], True, "3 x 4 pixels"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(images, counts, names, rotations, message):
    with pytest.raises(ValueError, match=message):
        class_source(images, np.array(counts), names, rotations)


def test_make_batch_scales_and_converts():
    x = {"image": np.array([[0, 51], [255, 102]], np.uint8), "tokens": np.array([[7], [8]])}
    batch = make_batch(x, [1, 0], ways=2)
    np.testing.assert_allclose(batch.x["image"], [[0, 0.2], [1, 0.4]], rtol=1e-6)
    assert batch.x["image"].dtype == batch.mask.dtype == jnp.float32
    assert batch.x["tokens"].dtype == batch.y.dtype == jnp.int32
    assert batch.mask.tolist() == [1, 1]
    assert make_batch(np.ones((2, 1)), np.ones((2, 3))).y.shape == (2, 3)


@pytest.mark.parametrize(
    ("x", "y", "ways", "message"),
    [
        (np.zeros((3, 2)), [0, 1], 2, r"\[3\] inputs for labels of shape \[2\]"),
        (np.zeros((2, 2)), [0, 5], 5, r"Label 5 is outside 0..4 \(5 ways\)"),
        (np.zeros((2, 2)), [0, -1], 5, r"Label -1 is outside 0..4 \(5 ways\)"),
        (np.zeros((2, 2)), [0, -1], None, "Label -1 is negative"),
        (np.zeros((2, 2)), [0.0, 1.0], 2, "must be integers and are float64"),
        (np.array([[0.0, np.nan]]), [0], 2, r"value at \[0, 1\] is nan"),
        (np.zeros((1, 2)), [[np.inf]], None, r"value at \[0, 0\] is inf"),
        (np.zeros((2, 2)), [[0], [1]], 2, r"y of shape \[2, 1\]; give integer labels as \[n\]"),
        (np.zeros((2, 2)), [[0], [1]], None, r"y of shape \[2, 1\]; give integer labels as"),
        (np.zeros((2, 2)), [0.5, 1.5], None, r"float64 y of shape \[2\]; .* targets as \[n, d\]"),
        ({}, [0], 2, r"got \[\] inputs"),
    ],
)
def test_make_batch_refuses(x, y, ways, message):
    with pytest.raises(ValueError, match=message):
        make_batch(x, y, ways)


def test_a_support_set_may_have_examples_without_a_label():
    x = np.zeros((3, 2))
    assert make_batch(x, [0, -1, 1], ways=2, unlabeled=True).y.tolist() == [0, -1, 1]
    assert make_episode(x, [0, -1, 1], x, [0, 0, 1], ways=2).support.y.tolist() == [0, -1, 1]
    with pytest.raises(ValueError, match=r"Label -2 is outside 0..1 .* give -1 to those without"):
        make_batch(x, [0, -2, 1], ways=2, unlabeled=True)
    with pytest.raises(ValueError, match="Label -2 is negative"):
        make_episode(x, [0, -2, 1], x, [0, 0, 1])
    for ways in (2, None):
        with pytest.raises(ValueError, match="Label -1 is"):
            make_episode(x, [0, 1, 1], x, [0, -1, 1], ways)


def test_make_episode_wants_examples_of_one_shape():
    episode = make_episode(np.zeros((2, 4)), [0, 1], np.ones((3, 4)), [1, 1, 0], ways=2)
    assert episode.query.y.tolist() == [1, 1, 0]
    with pytest.raises(ValueError, match="Support examples have shapes"):
        make_episode(np.zeros((2, 4)), [0, 1], np.ones((3, 5)), [1, 1, 0])
    with pytest.raises(ValueError, match="Label 2 is outside"):
        make_episode(np.zeros((2, 4)), [0, 1], np.ones((3, 4)), [1, 2, 0], ways=2)


def untidy(number, **options):
    """Many tasks of a source whose classes have at least nine examples."""
    source = marked_source(np.full(8, 12))
    keys = jax.random.split(jax.random.key(0), number)
    sampler = jax.vmap(source.episodes(**{"queries": 3, **options}), (None, 0))
    return jax.tree.map(np.asarray, jax.jit(sampler)(source.data, keys))


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


def test_examples_are_drawn_evenly_and_labeled_by_class():
    source = marked_source(rotations=True)
    batch, again = jax.jit(source.examples(4000))(source.data, jax.random.key(0))
    assert same(batch, again)
    classes, _ = marks(batch.x)
    straight = batch.y % 4 == 0
    assert np.array_equal(classes[straight], batch.y[straight] // 4)
    turned = batch.y % 4 == 1
    assert np.array_equal(marks(np.rot90(batch.x[turned], -1, (1, 2)))[0], batch.y[turned] // 4)
    often = np.bincount(batch.y, minlength=24)
    expected = np.repeat(COUNTS, 4) * 4000 / (4 * COUNTS.sum())
    assert (np.abs(often - expected) < 5 * np.sqrt(expected)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ways": (3, 2), "shots": 1}, r"range of ways is \(3, 2\); give \(least, most\)"),
        ({"ways": 2, "shots": (0, 2)}, r"range of shots is \(0, 2\)"),
        ({"ways": 2, "shots": 1, "imbalanced": True}, "give a range, as in"),
        ({"ways": 2, "shots": 1, "distractors": 1}, "1 distractors but nothing unlabeled"),
        ({"ways": 2, "shots": 1, "unlabeled": 2.5}, "unlabeled is 2.5: give a whole number"),
        ({"ways": 2, "shots": 1, "unlabeled": 9}, "1 shots, 9 unlabeled and 3 queries needs 13"),
        ({"ways": 7, "shots": 1, "unlabeled": 1, "distractors": 2}, "7 ways and 2 distractors"),
    ],
)
def test_impossible_options_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        untidy(1, **options)
