"""What every learner promises, as functions of a case; ``test_contracts`` runs them over a table.

A new learner is one more row of the table. Each contract is an equality between two ways of
computing the same thing, so a learner that breaks it says something wrong to its users.

Compiling takes nearly all of the time, so the contracts of a case share two programs: its answers
to many tasks side by side, and its outer gradient. That the gradient is the same in chunks and on
all devices is a property of ``jaxmeta.gradients``, tried with one learner of each frame.
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

from jaxmeta.distributed.parallel import by_shard_map
from jaxmeta.gradients import Gradient, estimate
from jaxmeta.losses import accuracy, cross_entropy
from jaxmeta.nn import Statistics, batch_norm, conv2d
from jaxmeta.objectives import episodic
from jaxmeta.types import Batch, Episode, Key, Learner, Loss, Model, Objective, PyTree

WAYS, SHOTS, QUERIES, SIZE = 3, 2, 4, 8
PADDING, TASKS = 3, 16


class Case(NamedTuple):
    """A learner, and which of the promises that not every method makes it makes.

    Attributes:
      learner: for ``WAYS`` ways and images of ``SIZE`` pixels.
      equivariant: relabeling the classes permutes the predictions.
      learns: has parameters that the outer loop trains.
      ordered: the order of the support set matters.
      objective: ``(learner, loss) -> Objective`` to train it with.
      optimizer: to train it with.
      loss: to train it with.
    """

    learner: Learner
    equivariant: bool = False
    learns: bool = True
    ordered: bool = False
    objective: Callable[[Learner, Loss], Objective] = episodic
    optimizer: optax.GradientTransformation = optax.sgd(0.03, momentum=0.9)
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
    """Normalized differences of a pair of maps of :func:`small`, and a linear layer."""

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


def sample(data: object, key: Key, signal: float = 1.0) -> Episode:
    """Classes are random prototypes, examples noise around them, and padding is among them.

    Without ``signal`` there is noise alone.
    """
    class_key, support_key, query_key = jax.random.split(key, 3)
    centers = jax.random.normal(class_key, (WAYS, SIZE, SIZE, 1))

    def examples(key: Key, count: int) -> Batch:
        y = jnp.repeat(jnp.arange(WAYS), count)
        noise = jax.random.normal(key, (WAYS * count, SIZE, SIZE, 1))
        x = signal * centers[y] + (1 - 0.7 * signal) * noise
        return padded(Batch(x, y, jnp.ones(WAYS * count)), 9)

    return Episode(examples(support_key, SHOTS), examples(query_key, QUERIES))


def padded(batch: Batch, seed: int) -> Batch:
    """Puts rubbish behind the first two examples, masked."""
    rubbish = jax.random.normal(jax.random.key(seed), (PADDING, SIZE, SIZE, 1)) * 5
    between = Batch(rubbish, jnp.full(PADDING, seed % WAYS), jnp.zeros(PADDING))
    return jax.tree.map(
        lambda leaf, more: jnp.concatenate([leaf[:2], more, leaf[2:]]), batch, between
    )


def unpadded(leaf: jax.Array) -> jax.Array:
    """Takes out what stands in the places of padding."""
    return jnp.concatenate([leaf[:2], leaf[2 + PADDING :]])


@functools.partial(jax.jit, static_argnames="signal")
def tasks(seed: int, signal: float = 1.0) -> tuple[Episode, Key]:
    """A meta-batch of ``TASKS``, and a key for each of its tasks."""
    keys = jax.random.split(jax.random.key(seed), (2, TASKS))
    draw = functools.partial(sample, signal=signal)
    return jax.vmap(draw, in_axes=(None, 0))((), keys[0]), keys[1]


def task(which: int = 0) -> Episode:
    """One task."""
    return jax.tree.map(lambda leaf: leaf[which], tasks(0)[0])


def solve(case: Case, episode: Episode, key: Key) -> jax.Array:
    """The answers on the query set, from fixed initial parameters."""
    learner = case.learner
    params, state = learner.init(jax.random.key(1), episode)
    adapted, _ = learner.adapt(params, state, episode.support, key)
    return learner.predict(params, state, adapted, episode.query.x, episode.query.mask)[0]


def start(case: Case) -> tuple[PyTree, PyTree]:
    """Fixed initial parameters and state."""
    return jax.jit(case.learner.init)(jax.random.key(1), task())


@functools.cache
def solver(case: Case) -> Callable[..., jax.Array]:
    """``solve`` for ``TASKS`` tasks side by side, compiled once for all the contracts of a case."""
    return jax.jit(jax.vmap(functools.partial(solve, case), in_axes=(0, None)))


def answers(case: Case, *episodes: Episode) -> jax.Array:
    """What the case answers to some tasks, side by side; padding has no answer here."""
    filled = episodes + episodes[:1] * (TASKS - len(episodes))
    together = jax.tree.map(lambda *leaves: np.stack(leaves), *filled)
    answered = solver(case)(together, KEY)[: len(episodes)]
    return np.stack([unpadded(logits) for logits in answered])


@functools.cache
def gradient(case: Case) -> Gradient:
    """The outer gradient of ``TASKS`` tasks at once, compiled once for the contracts of a case."""
    return jax.jit(estimate(case.objective(case.learner, case.loss), chunk=TASKS))


KEY = jax.random.key(2)


def same(one: object, other: object, tolerance: float = 2e-4) -> None:
    """Asserts equality up to the rounding of differently ordered float32 sums."""
    chex.assert_trees_all_close(one, other, rtol=tolerance, atol=tolerance)


def together_equals_alone(case: Case) -> None:
    """Side by side and padded, a task is answered as alone and as it is."""
    episodes = [task(which) for which in range(3)]
    alone = jax.tree.map(unpadded, episodes[1])
    same(answers(case, *episodes)[1], jax.jit(functools.partial(solve, case))(alone, KEY))


def chunks_and_devices_equal_all_at_once(case: Case) -> None:
    """The gradient is the same in one piece, and one by one on eight devices."""
    episodes, keys = tasks(0)
    params, state = start(case)
    assert len(jax.devices()) == 8
    objective = case.objective(case.learner, case.loss)
    whole = gradient(case)(params, state, episodes, keys)
    shared = jax.jit(estimate(objective, chunk=1, spread=by_shard_map(jax.devices())))
    spread = shared(params, state, episodes, keys)
    difference = jax.tree.map(jnp.subtract, whole[0], spread[0])
    assert optax.tree.norm(difference) <= 1e-3 * optax.tree.norm(whole[0])
    same(spread[1].statistics, whole[1].statistics)
    same(spread[1].metrics["loss"], whole[1].metrics["loss"])


def padding_changes_nothing(case: Case) -> None:
    """Masked examples, whatever they hold, take no part."""
    episode = task()
    others = Episode(*(padded(jax.tree.map(unpadded, batch), 10) for batch in episode))
    one, other = answers(case, episode, others)
    same(one, other)


def absent_classes_get_no_probability(case: Case) -> None:
    """A class that the support set does not show is never predicted."""
    episode = task()
    shown = episode.support.mask * (episode.support.y != 1).astype(jnp.float32)
    (logits,) = answers(case, episode._replace(support=episode.support._replace(mask=shown)))
    assert np.all(np.isneginf(logits[:, 1]))
    assert np.all(np.isfinite(logits[:, [0, 2]]))


def unlabeled_examples_have_no_class(case: Case) -> None:
    """Examples without a label are of no class; above all not of the last."""
    episode = task()

    def labeled(y: jax.Array) -> Episode:
        return episode._replace(support=episode.support._replace(y=y))

    unlabeled = jnp.where(episode.support.y == 1, -1, episode.support.y)
    of_the_last = jnp.where(unlabeled == -1, WAYS - 1, unlabeled)
    logits, other = answers(case, labeled(unlabeled), labeled(of_the_last))
    assert np.all(np.isneginf(logits[:, 1]))
    assert np.all(np.isfinite(logits[:, [0, 2]]))
    assert np.abs(other[:, [0, 2]] - logits[:, [0, 2]]).max() > 1e-3


def order_of_support_changes_nothing(case: Case) -> None:
    """A support set is a set."""
    if case.ordered:
        pytest.skip("the method reads the support set in its order")
    episode = task()
    order = jax.random.permutation(jax.random.key(3), episode.support.y.size)
    shuffled = jax.tree.map(lambda leaf: leaf[order], episode.support)
    one, other = answers(case, episode, episode._replace(support=shuffled))
    same(one, other)


def relabeling_permutes_predictions(case: Case) -> None:
    """The names of the classes carry no meaning."""
    if not case.equivariant:
        pytest.skip("the method has an initialization of its own for each class")
    episode = task()
    renamed = episode.support._replace(y=(episode.support.y + 1) % WAYS)
    one, other = answers(case, episode, episode._replace(support=renamed))
    same(np.roll(one, 1, axis=1), other)


def learns_without_recompiling(case: Case) -> None:
    """The loss falls where there is something to learn, and nothing compiles twice."""
    if not case.learns:
        pytest.skip("nothing is meta-learned")
    objective = case.objective(case.learner, case.loss)

    @jax.jit
    def move(params, state, moments, grads, statistics):
        with jax.numpy_dtype_promotion("standard"):
            updates, moments = case.optimizer.update(grads, moments, params)
            params = optax.apply_updates(params, updates)
        return params, objective.update(state, params, statistics), moments

    params, state = start(case)
    moments, losses = case.optimizer.init(params), []
    for seed in range(60):
        grads, report = gradient(case)(params, state, *tasks(seed))
        params, state, moments = move(params, state, moments, grads, report.statistics)
        losses.append(report.metrics["loss"])
    assert np.mean(losses[-20:]) < 0.8 * np.mean(losses[:5])
    assert gradient(case)._cache_size() <= 1  # 0 if many other programs have pushed it out


def chance_without_signal(case: Case) -> None:
    """When images say nothing about their class, accuracy is chance: no label leaks."""
    values = []
    for seed in range(4):
        noise, _ = tasks(seed, signal=0.0)
        logits = solver(case)(noise, KEY)
        values.append(jax.vmap(accuracy)(logits, noise.query.y, noise.query.mask))
    standard_error = np.sqrt((1 / WAYS) * (1 - 1 / WAYS) / (4 * TASKS * WAYS * QUERIES))
    assert abs(np.mean(values) - 1 / WAYS) < 5 * standard_error


CONTRACTS = (
    together_equals_alone,
    padding_changes_nothing,
    absent_classes_get_no_probability,
    unlabeled_examples_have_no_class,
    order_of_support_changes_nothing,
    relabeling_permutes_predictions,
    learns_without_recompiling,
    chance_without_signal,
)
