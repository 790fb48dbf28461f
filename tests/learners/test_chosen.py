"""A learner chosen for each task."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.learners import chosen, maml, meta_sgd, nearest_mean, prototypical
from jaxmeta.learners.frames.support import membership
from jaxmeta.losses import cross_entropy
from jaxmeta.nn import from_functions, mlp
from jaxmeta.types import Batch, Episode, Learner

WAYS, KEY = 3, jax.random.key(0)
RANDOM = np.random.default_rng(0)
Y = np.tile(np.arange(WAYS), 3)
PARAMS = {"model": (), "head": ()}
IDENTITY = from_functions(lambda key, x: (), lambda params, x: x)


def batch(noise: float, mask: np.ndarray | None = None) -> Batch:
    x = 3 * np.eye(WAYS)[Y] + noise * RANDOM.normal(size=(9, WAYS))
    mask = np.ones(9) if mask is None else mask
    return Batch(jnp.float32(x), jnp.int32(Y), jnp.float32(mask))


def constant(shift: float) -> Learner:
    """Predicts by the means of the classes, with all distances shifted to the first class."""
    near = nearest_mean(IDENTITY, WAYS)

    def predict(params, state, adapted, x, mask=None, key=None):
        logits, state = near.predict(params, state, adapted, x, mask, key)
        return logits + jnp.array([shift, 0.0, 0.0])[None], state

    return near._replace(predict=predict)


def test_it_is_the_learner_that_numpy_chooses() -> None:
    support, query = batch(0.5), batch(0.5)
    learners = [constant(100.0), nearest_mean(IDENTITY, WAYS), constant(-5.0)]
    learner = chosen(learners, WAYS, folds=3)
    params, state = learner.init(KEY, Episode(support, query))
    adapted, metrics = jax.jit(learner.adapt)(params, state, support, KEY)
    losses = []
    for each in learners:
        total = 0.0
        for fold in range(3):
            held = (np.arange(9) // 3 == fold).astype(np.float32)
            kept = support._replace(mask=jnp.float32(1 - held))
            own, _ = each.adapt(params, state, kept, KEY)
            logits, _ = each.predict(params, state, own, support.x)
            total += float(cross_entropy(logits, support.y, jnp.float32(held)))
        losses.append(total)
    assert int(adapted.best) == int(metrics["chosen"]) == np.argmin(losses) == 1
    logits, _ = learner.predict(params, state, adapted, query.x)
    own, _ = learners[1].adapt(params, state, support, KEY)
    np.testing.assert_allclose(logits, learners[1].predict(params, state, own, query.x)[0])


def test_each_task_has_its_own() -> None:
    """Where classes are told by scale, and where by angle."""

    def scaled(x):
        return 4 * x / jnp.linalg.norm(x, axis=1, keepdims=True)

    angle = from_functions(lambda key, x: (), lambda params, x: scaled(x))
    learner = chosen([prototypical(IDENTITY, WAYS), prototypical(angle, WAYS)], WAYS)
    angles = np.array([0.0, 2.0, 4.0])[Y] + 0.1 * RANDOM.normal(size=9)
    random_length, length = np.exp(2 * RANDOM.normal(size=9)), np.array([1.0, 3.0, 9.0])[Y]
    random_angle = 6 * RANDOM.uniform(size=9)
    tasks = [
        np.stack([r * np.cos(a), r * np.sin(a)], axis=1)
        for r, a in ((length, 0.1 * random_angle), (random_length, angles))
    ]
    supports = Batch(jnp.float32(np.stack(tasks)), *jnp.float32([[Y] * 2, np.ones((2, 9))]))
    supports = supports._replace(y=supports.y.astype(jnp.int32))
    adapt = jax.vmap(lambda support: learner.adapt(PARAMS, {}, support, KEY)[0].best)
    assert jax.jit(adapt)(supports).tolist() == [0, 1]


def test_padding_and_a_class_with_one_example_do_not_decide() -> None:
    mask = np.ones(9)
    mask[[5, 8]] = 0  # one example of the last class is left
    support = batch(0.5, mask)
    assert membership(support, WAYS).sum(axis=0).tolist() == [3, 3, 1]
    learner = chosen([constant(100.0), nearest_mean(IDENTITY, WAYS)], WAYS, folds=3)
    adapted, _ = learner.adapt(PARAMS, {}, support, KEY)
    assert adapted.best == 1
    garbage = support._replace(x=jnp.where(support.mask[:, None] > 0, support.x, 1e6))
    again, _ = learner.adapt(PARAMS, {}, garbage, KEY)
    assert again.best == 1
    np.testing.assert_allclose(again.each[1].memory, adapted.each[1].memory, rtol=1e-5)


def test_a_learner_that_diverged_is_not_chosen() -> None:
    learner = chosen([constant(float("nan")), nearest_mean(IDENTITY, WAYS)], WAYS)
    assert learner.adapt(PARAMS, {}, batch(0.5), KEY)[0].best == 1


def test_learners_share_the_network_and_keep_what_else_they_learn() -> None:
    episode = Episode(batch(0.5), batch(0.5))
    network = mlp(WAYS, hidden=())
    slow, fast = (meta_sgd(network, WAYS, learning_rate=rate) for rate in (1e-3, 1.0))
    learner = chosen([slow, fast], WAYS)
    params, state = learner.init(KEY, episode)
    rates = [own["hyper"]["head"]["bias"][0] for own in params["own"]]
    np.testing.assert_allclose(rates, [1e-3, 1.0])
    adapted, _ = learner.adapt(params, state, episode.support, KEY)
    own = {"model": params["model"], "hyper": params["own"][1]["hyper"]}
    alone, _ = fast.adapt(own, state, episode.support, KEY)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), adapted.each[1].fast, alone.fast
    )


def test_mistakes_are_told() -> None:
    near = nearest_mean(IDENTITY, WAYS)
    with pytest.raises(ValueError, match="1 learners: give two"):
        chosen([near], WAYS)
    with pytest.raises(ValueError, match="folds"):
        chosen([near, near], WAYS, folds=1)
    with pytest.raises(ValueError, match=r"9 examples of 3 classes, and 4 folds need 4"):
        chosen([near, near], WAYS, folds=4).adapt(PARAMS, {}, batch(0.5), KEY)
    episode = Episode(batch(0.5), batch(0.5))
    others = [maml(mlp(WAYS), WAYS), nearest_mean(mlp(WAYS + 1), WAYS)]
    with pytest.raises(ValueError, match="ways is 2, but a learner has 3"):
        chosen([near, near], 2).adapt(PARAMS, {}, batch(0.5), KEY)
    with pytest.raises(ValueError, match="Learner 1 has another network"):
        chosen(others, WAYS).init(KEY, episode)
