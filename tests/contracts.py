"""What every learner promises, as functions of a case; ``test_contracts`` runs them over a table.

A new learner is one more row of the table. Each contract is an equality between two ways of
computing the same thing, so a learner that breaks it says something wrong to its users.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta.gradients import mean_gradient
from jaxmeta.losses import accuracy, cross_entropy
from jaxmeta.nn import Statistics, batch_norm, conv2d
from jaxmeta.objectives import episodic
from jaxmeta.parallel import by_shard_map, over_devices
from jaxmeta.train import Update, outer_loop, start
from jaxmeta.types import Batch, Episode, Key, Learner, Loss, Model, Objective

WAYS, SHOTS, QUERIES, SIZE = 3, 2, 4, 8


class Case(NamedTuple):
    """A learner, and which of the promises that not every method makes it makes.

    Attributes:
      learner: for ``WAYS`` ways and images of ``SIZE`` pixels.
      equivariant: relabelling the classes permutes the predictions.
      learns: has parameters that the outer loop trains.
      ordered: the order of the support set matters.
      objective: ``(learner, loss) -> Objective`` to train it with.
      optimiser: to train it with.
      loss: to train it with.
    """

    learner: Learner
    equivariant: bool = False
    learns: bool = True
    ordered: bool = False
    objective: Callable[[Learner, Loss], Objective] = episodic
    optimiser: optax.GradientTransformation = optax.sgd(0.03, momentum=0.9)
    loss: Loss = cross_entropy


def small(outputs):
    """One block of conv4 and a linear layer: all that can go wrong, compiled in a second.

    Without outputs it is the block alone, and gives maps.
    """

    def init(key, x):
        kernel_key, head_key = jax.random.split(key)
        params = {
            "block0": {
                "kernel": jax.random.normal(kernel_key, (3, 3, 1, 6)) / 3,
                "scale": jnp.ones(6),
                "offset": jnp.zeros(6),
            },
        }
        if outputs is not None:
            params["head"] = {"kernel": jax.random.normal(head_key, (16 * 6, outputs)) / 10}
        return params, Statistics(jnp.zeros(6), jnp.ones(6))

    def apply(params, state, x, mask=None, key=None, batch_statistics=True):
        block = params["block0"]
        x = conv2d(x, block["kernel"], stride=2)
        x, used = batch_norm(x, block["scale"], block["offset"], state, mask, batch_statistics)
        if outputs is None:
            return jax.nn.relu(x), used
        return jax.nn.relu(x).reshape(x.shape[0], -1) @ params["head"]["kernel"], used

    return Model(init, apply)


def small_relation():
    """Normalised differences of a pair of maps of :func:`small`, and a linear layer."""

    def init(key, x):
        params = {
            "scale": jnp.ones(6),
            "offset": jnp.zeros(6),
            "head": -jnp.abs(jax.random.normal(key, (16 * 6,))) / 10,
        }
        return params, Statistics(jnp.zeros(6), jnp.ones(6))

    def apply(params, state, x, mask=None, key=None, batch_statistics=True):
        apart = (x[..., :6] - x[..., 6:]) ** 2
        x, used = batch_norm(
            apart, params["scale"], params["offset"], state, mask, batch_statistics
        )
        return x.reshape(x.shape[0], -1) @ params["head"], used

    return Model(init, apply)


def sample(data: object, key: Key) -> Episode:
    """Classes are random prototypes, examples noise around them."""
    class_key, support_key, query_key = jax.random.split(key, 3)
    centres = jax.random.normal(class_key, (WAYS, SIZE, SIZE, 1))

    def examples(key: Key, count: int) -> Batch:
        y = jnp.repeat(jnp.arange(WAYS), count)
        noise = jax.random.normal(key, (WAYS * count, SIZE, SIZE, 1))
        return Batch(centres[y] + 0.3 * noise, y, jnp.ones(WAYS * count))

    return Episode(examples(support_key, SHOTS), examples(query_key, QUERIES))


def tasks(count: int, seed: int = 0) -> tuple[Episode, Key]:
    """A meta-batch, and a key for each of its tasks."""
    keys = jax.random.split(jax.random.key(seed), (2, count))
    return jax.vmap(sample, in_axes=(None, 0))((), keys[0]), keys[1]


def task(seed: int = 0) -> Episode:
    """One task."""
    return sample((), jax.random.key(seed))


def solve(case: Case, episode: Episode, key: Key) -> jax.Array:
    """The answers on the query set, from fixed initial parameters."""
    learner = case.learner
    params, state = learner.init(jax.random.key(1), episode)
    adapted, _ = learner.adapt(params, state, episode.support, key)
    return learner.predict(params, state, adapted, episode.query.x, episode.query.mask)[0]


@functools.cache
def solver(case: Case) -> Callable[..., jax.Array]:
    """``solve``, compiled once for all the contracts of a case."""
    return jax.jit(functools.partial(solve, case))


@functools.cache
def updater(case: Case) -> Update:
    """Twenty steps of the outer loop, compiled once for all the contracts of a case."""
    gradient = mean_gradient(case.objective(case.learner, case.loss))
    return outer_loop(gradient, case.optimiser, sample, meta_batch=4)


KEY = jax.random.key(2)


def same(one: object, other: object, tolerance: float = 2e-4) -> None:
    """Asserts equality up to the rounding of differently ordered float32 sums."""
    chex.assert_trees_all_close(one, other, rtol=tolerance, atol=tolerance)


def jit_equals_no_jit(case: Case) -> None:
    """Compiling changes nothing."""
    same(solver(case)(task(), KEY), solve(case, task(), KEY))


def vmap_equals_loop(case: Case) -> None:
    """A meta-batch is its tasks, one by one."""
    episodes, _ = tasks(3)
    together = jax.jit(jax.vmap(functools.partial(solve, case), (0, None)))(episodes, KEY)
    apart = [solver(case)(jax.tree.map(lambda leaf, i=i: leaf[i], episodes), KEY) for i in range(3)]
    same(together, jnp.stack(apart))


def chunks_and_devices_equal_all_at_once(case: Case) -> None:
    """The gradient is the same in one piece, in chunks, and on eight devices."""
    if not case.learns:
        pytest.skip("nothing is meta-learned")
    episodes, keys = tasks(8)
    params, state = case.learner.init(jax.random.key(1), task())
    objective = case.objective(case.learner, case.loss)
    whole = jax.jit(mean_gradient(objective))(params, state, episodes, keys)
    chunked = jax.jit(mean_gradient(objective, chunk=2))(params, state, episodes, keys)
    spread = over_devices(mean_gradient(objective), by_shard_map(jax.devices()))(
        params, state, episodes, keys
    )
    assert len(jax.devices()) == 8
    scale = optax.tree.norm(whole[0])
    for other in (chunked, spread):
        difference = jax.tree.map(jnp.subtract, whole[0], other[0])
        assert optax.tree.norm(difference) <= 1e-3 * scale
        same(other[1].state, whole[1].state)
        same(other[1].metrics["loss"], whole[1].metrics["loss"])


def padding_changes_nothing(case: Case) -> None:
    """Masked examples, whatever they hold, take no part; masked classes get no probability."""
    episode = task()
    rubbish = jax.random.normal(jax.random.key(9), (3, SIZE, SIZE, 1)) * 5

    def padded(batch: Batch) -> Batch:
        return Batch(
            jnp.concatenate([batch.x[:2], rubbish, batch.x[2:]]),
            jnp.concatenate([batch.y[:2], jnp.zeros(3, jnp.int32), batch.y[2:]]),
            jnp.concatenate([batch.mask[:2], jnp.zeros(3), batch.mask[2:]]),
        )

    answers = solver(case)(episode, KEY)
    with_padding = solver(case)(Episode(padded(episode.support), padded(episode.query)), KEY)
    same(jnp.concatenate([with_padding[:2], with_padding[5:]]), answers)


def absent_classes_get_no_probability(case: Case) -> None:
    """A class that the support set does not show is never predicted."""
    episode = task()
    shown = episode.support.mask * (episode.support.y != 1).astype(jnp.float32)
    support = episode.support._replace(mask=shown)
    answers = solver(case)(Episode(support, episode.query), KEY)
    assert np.all(np.isneginf(answers[:, 1]))
    assert np.all(np.isfinite(answers[:, [0, 2]]))


def unlabelled_examples_have_no_class(case: Case) -> None:
    """Examples without a label are of no class; above all not of the last."""
    episode = task()
    unlabelled = jnp.where(episode.support.y == 1, -1, episode.support.y)
    support = episode.support._replace(y=unlabelled)
    answers = solver(case)(Episode(support, episode.query), KEY)
    assert np.all(np.isneginf(answers[:, 1]))
    assert np.all(np.isfinite(answers[:, [0, 2]]))
    last = support._replace(y=jnp.where(unlabelled == -1, WAYS - 1, unlabelled))
    of_the_last = solver(case)(Episode(last, episode.query), KEY)
    assert np.abs(of_the_last[:, [0, 2]] - answers[:, [0, 2]]).max() > 1e-3


def order_of_support_changes_nothing(case: Case) -> None:
    """A support set is a set."""
    if case.ordered:
        pytest.skip("the method reads the support set in its order")
    episode = task()
    order = jax.random.permutation(jax.random.key(3), WAYS * SHOTS)
    shuffled = jax.tree.map(lambda leaf: leaf[order], episode.support)
    same(solver(case)(Episode(shuffled, episode.query), KEY), solver(case)(episode, KEY))


def relabelling_permutes_predictions(case: Case) -> None:
    """The names of the classes carry no meaning."""
    if not case.equivariant:
        pytest.skip("the method has an initialisation of its own for each class")
    episode = task()
    renamed = episode.support._replace(y=(episode.support.y + 1) % WAYS)
    answers = solver(case)(Episode(renamed, episode.query), KEY)
    same(jnp.roll(solver(case)(episode, KEY), 1, axis=1), answers)


def learns_without_recompiling(case: Case) -> None:
    """The loss falls where there is something to learn, and nothing compiles twice."""
    if not case.learns:
        pytest.skip("nothing is meta-learned")
    train_state = start(case.optimiser, *case.learner.init(jax.random.key(1), task()))
    losses = []
    for _ in range(3):
        train_state, metrics = updater(case)(train_state, (), KEY, 20)
        losses.append(metrics["loss"])
    assert jnp.mean(losses[-1]) < 0.8 * jnp.mean(losses[0][:5])
    assert int(train_state.step) == 60
    assert updater(case)._cache_size() == 1


def chance_without_signal(case: Case) -> None:
    """When images say nothing about their class, accuracy is chance: no label leaks."""

    def noise(key: Key) -> jax.Array:
        episode = sample((), key)
        x_key, q_key = jax.random.split(key)
        support = episode.support._replace(x=jax.random.normal(x_key, episode.support.x.shape))
        query = episode.query._replace(x=jax.random.normal(q_key, episode.query.x.shape))
        answers = solve(case, Episode(support, query), KEY)
        return accuracy(answers, query.y, query.mask)

    values = jax.jit(jax.vmap(noise))(jax.random.split(jax.random.key(5), 64))
    standard_error = np.sqrt((1 / WAYS) * (1 - 1 / WAYS) / (64 * WAYS * QUERIES))
    assert abs(np.mean(values) - 1 / WAYS) < 5 * standard_error


CONTRACTS = (
    jit_equals_no_jit,
    vmap_equals_loop,
    chunks_and_devices_equal_all_at_once,
    padding_changes_nothing,
    absent_classes_get_no_probability,
    unlabelled_examples_have_no_class,
    order_of_support_changes_nothing,
    relabelling_permutes_predictions,
    learns_without_recompiling,
    chance_without_signal,
)
