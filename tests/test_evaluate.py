"""Evaluation on all examples: every one counts once, and intervals are the jackknife's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.data import array_source, class_source, looked_up, without_support
from jaxmeta.distributed.parallel import by_shard_map, replicate
from jaxmeta.evaluate import GROUPS, over_all, summarize
from jaxmeta.learners import fixed_classifier
from jaxmeta.losses import accuracy, balanced_accuracy
from jaxmeta.nn import mlp
from tests.objective_contracts import normalized_mlp

KEY, CLASSES = jax.random.key(0), 3
RANDOM = np.random.default_rng(0)
Y = np.repeat(np.arange(CLASSES), [70, 30, 7])
SOURCE = array_source(RANDOM.normal(size=(len(Y), 4)) + Y[:, None], Y)
MODEL, HEAD = normalized_mlp(4), mlp(CLASSES, ())
METRICS = {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy}
SAMPLE = without_support(SOURCE.whole)


def trained(normalization="running"):
    learner = fixed_classifier(MODEL, HEAD, normalization=normalization)
    return learner, *learner.init(KEY, SAMPLE(SOURCE.data, KEY))


def outputs(learner, params, state, x):
    return np.asarray(learner.predict(params, state, (), x)[0])


@pytest.mark.parametrize("batch", [10, 40, 1000])
def test_every_example_counts_once_whatever_the_batch(batch):
    learner, params, state = trained()
    values = over_all(learner, METRICS, SAMPLE, batch)(params, state, SOURCE.data, KEY)
    x, y, _ = SOURCE.whole(SOURCE.data, KEY)
    right = outputs(learner, params, state, x).argmax(axis=1) == np.asarray(y)
    recalls = [right[np.asarray(y) == c].mean() for c in range(CLASSES)]
    assert summarize(values["accuracy"]).mean == pytest.approx(right.mean(), abs=1e-5)
    assert summarize(values["balanced_accuracy"]).mean == pytest.approx(np.mean(recalls), abs=1e-5)


def test_the_interval_is_that_of_leaving_out_each_group_in_turn():
    learner, params, state = trained()
    values = over_all(learner, METRICS, SAMPLE)(params, state, SOURCE.data, KEY)
    x, y, _ = SOURCE.whole(SOURCE.data, KEY)
    z, y = outputs(learner, params, state, x), np.asarray(y)
    groups = np.asarray(jax.random.permutation(KEY, len(y))) % GROUPS
    for name, metric in METRICS.items():
        without = [
            float(metric(z[groups != g], y[groups != g], jnp.ones((groups != g).sum())))
            for g in range(GROUPS)
        ]
        error = np.sqrt((GROUPS - 1) * np.var(without))  # the jackknife's formula
        assert summarize(values[name]).ci95 == pytest.approx(1.96 * error, rel=1e-3)


def test_the_interval_of_a_mean_is_the_usual_one():
    y = np.tile([0, 1], 5_000)
    x = np.where(RANDOM.random(10_000) < 0.9, y, 1 - y).astype(np.float32)[:, None]
    source, identity = array_source(x, y), mlp(2, ())
    learner = fixed_classifier(mlp(1, ()), identity)
    sample = without_support(source.whole)
    params, state = learner.init(KEY, sample(source.data, KEY))
    params["model"]["head"] = {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)}
    params["head"]["head"] = {"kernel": jnp.array([[-2.0, 2.0]]), "bias": jnp.array([1.0, -1.0])}
    values = over_all(learner, {"accuracy": accuracy}, sample)(params, state, source.data, KEY)
    found = summarize(values["accuracy"])
    assert found.mean == pytest.approx(0.9, abs=0.01)
    assert found.ci95 == pytest.approx(1.96 * np.sqrt(0.9 * 0.1 / 10_000), rel=0.3)


def test_the_interval_is_right_where_classes_differ_and_queries_are_sorted():
    """A classifier that knows one class of two: half of the examples are right."""
    source = array_source(np.zeros((4_000, 1)), np.repeat([0, 1], 2_000))
    learner = fixed_classifier(mlp(1, ()), mlp(2, ()))
    sample = without_support(source.whole)
    params, state = learner.init(KEY, sample(source.data, KEY))
    values = over_all(learner, {"accuracy": accuracy}, sample)(params, state, source.data, KEY)
    found = summarize(values["accuracy"])
    assert found.mean == pytest.approx(0.5)
    assert found.ci95 == pytest.approx(1.96 * 0.5 / np.sqrt(4_000), rel=0.35)


def test_batches_are_random_and_normalize_by_their_own_statistics():
    learner, params, state = trained("transductive")
    values = over_all(learner, METRICS, SAMPLE, batch=36)(params, state, SOURCE.data, KEY)
    x, y, _ = SOURCE.whole(SOURCE.data, KEY)
    right = np.zeros(len(y), bool)
    order = np.asarray(jax.random.permutation(KEY, len(y)))
    for first in range(3):  # three batches of random examples
        rows = order[first::3]
        z = outputs(learner, params, state, x[rows])
        right[rows] = z.argmax(axis=1) == np.asarray(y)[rows]
    assert summarize(values["accuracy"]).mean == pytest.approx(right.mean(), abs=1e-5)


def test_devices_change_nothing():
    learner, params, state = trained("transductive")
    one = over_all(learner, METRICS, SAMPLE, 10)(params, state, SOURCE.data, KEY)
    devices = jax.devices()
    assert len(devices) == 8
    spread = over_all(learner, METRICS, SAMPLE, 10, by_shard_map(devices))
    many = spread(*replicate((params, state, SOURCE.data, KEY), devices))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one, many)


def test_a_whole_source_has_all_examples_in_every_variant_by_class():
    images = np.arange(5, dtype=np.float32)[:, None]
    source = class_source(
        images,
        [2, 0, 3],
        ["ant", "bee", "cat"],
        decode=lambda image, variant: image + 10 * variant.astype(jnp.float32),
        variants=2,
    )
    x, y, mask = source.whole(source.data, KEY)
    assert x[:, 0].tolist() == [0, 1, 10, 11, 2, 3, 4, 12, 13, 14]
    assert y.tolist() == [0, 0, 1, 1, 4, 4, 4, 5, 5, 5]
    assert mask.tolist() == [1] * 10
    tokens = array_source({"tokens": np.array([[2], [1], [2]])}, [0, 1, 0])
    words = looked_up(tokens, {"words": np.array([[0.0], [5.0], [7.0]])})
    batch = words.whole(words.data, KEY)
    assert batch.x["words"].ravel().tolist() == [7, 7, 5]


def test_a_fixed_classifier_knows_two_normalizations():
    with pytest.raises(ValueError, match="'inductive': choose 'running' or 'transductive'"):
        fixed_classifier(MODEL, HEAD, normalization="inductive")
    empty = without_support(lambda data, key: jax.tree.map(lambda leaf: leaf[:0], data))
    learner, params, state = trained()
    batch = SOURCE.whole(SOURCE.data, KEY)
    with pytest.raises(ValueError, match="0 queries"):
        over_all(learner, METRICS, empty)(params, state, batch, KEY)
    with pytest.raises(ValueError, match="batch"):
        over_all(fixed_classifier(MODEL, HEAD), METRICS, SAMPLE, batch=0)
