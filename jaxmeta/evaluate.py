"""Evaluation: means over many tasks or over all examples, with their confidence intervals."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.checks import check_count
from jaxmeta.data.placed import at_place
from jaxmeta.distributed.memory import tasks_at_a_time
from jaxmeta.distributed.microbatches import (
    Spread,
    even_weights,
    in_chunks,
    one_device,
    vmap_tasks,
)
from jaxmeta.distributed.processes import shared_sharding
from jaxmeta.types import (
    Array,
    Batch,
    Key,
    Learner,
    Loss,
    Metrics,
    PyTree,
    Sampler,
)


class Evaluation(NamedTuple):
    """A mean over episodes and its confidence interval.

    Attributes:
      mean: over episodes.
      ci95: half the width of the 95% interval of the mean, ``1.96 s / sqrt(episodes)``, with s the
        sample standard deviation over episodes.
      episodes: number of episodes.
    """

    mean: float
    ci95: float
    episodes: int


def evaluator(
    learner: Learner,
    metrics: Mapping[str, Loss],
    sample: Sampler,
    episodes: int,
    chunk: int | None = None,
    spread: Spread = one_device,
) -> Callable[[PyTree, PyTree, PyTree, Key], Metrics]:
    """Compiles the evaluation of a learner on sampled episodes.

    Episode ``i`` is a function of ``(data, key, i)`` alone: every learner sees the same episodes.
    Several tasks that a sampler takes in turn are those of episodes 0, 1, and so on.

    Args:
      learner: adapts to the support set; predictions are made without noise.
      metrics: metrics of the query set, by name.
      sample: draws one task.
      episodes: number of tasks.
      chunk: number of tasks computed at a time; ``None`` chooses as many as fit into memory; see
        :mod:`jaxmeta.distributed.memory`.
      spread: how the episodes are spread over devices, as in ``by_shard_map(jax.devices())``.

    Returns:
      ``(params, state, data, key) -> values``, where ``values[name]`` is ``[episodes]``; see
      :func:`summarize`.

    Raises:
      ValueError: ``episodes`` is not an integer of 2 or more, which an interval needs, or ``chunk``
        is not a positive integer.

    >>> from jaxmeta.data import sinusoid
    >>> from jaxmeta.learners import maml
    >>> from jaxmeta.losses import squared_error
    >>> from jaxmeta.nn import mlp
    >>> source = sinusoid()["test"]
    >>> learner = maml(mlp(1, hidden=(4,)), steps=1, loss=squared_error)
    >>> sample = source.episodes(1, 5, 10)
    >>> run = evaluator(learner, {"error": squared_error}, sample, episodes=8)
    >>> key = jax.random.key(0)
    >>> params, state = learner.init(key, sample(source.data, key))
    >>> values = run(params, state, source.data, key)
    >>> summarize(values["error"]).episodes
    8
    """
    check_count("episodes", episodes, least=2)
    if chunk is not None:
        check_count("chunk", chunk, least=1)

    draw = at_place(sample)

    def one(common: tuple[PyTree, PyTree, PyTree, Key], index: Array) -> Metrics:
        params, state, data, key = common
        sample_key, adapt_key = jax.random.split(jax.random.fold_in(key, index))
        support, query = draw(data, sample_key, index)
        adapted, _ = learner.adapt(params, state, support, adapt_key)
        outputs, _ = learner.predict(params, state, adapted, query.x, query.mask)
        return {name: metric(outputs, query.y, query.mask) for name, metric in metrics.items()}

    def share(common: PyTree, indices: Array, weights: Array) -> tuple[PyTree, Metrics]:
        size = chunk or tasks_at_a_time(one, common, indices[0], tasks=indices.size)
        several = vmap_tasks(one)
        # There is nothing to sum: the values stay with their episodes.
        return in_chunks(size)(lambda *given: ((), several(*given[:2])))(common, indices, weights)

    def run(params: PyTree, state: PyTree, data: PyTree, key: Key) -> Metrics:
        common = (params, state, data, key)
        return spread(share)(common, jnp.arange(episodes), even_weights(episodes))[1]

    # Every process gets all values.
    return jax.jit(run, out_shardings=shared_sharding() if jax.process_count() > 1 else None)


GROUPS = 50


def over_all(
    learner: Learner,
    metrics: Mapping[str, Loss],
    sample: Sampler,
    batch: int = 500,
    spread: Spread = one_device,
) -> Callable[[PyTree, PyTree, PyTree, Key], Metrics]:
    r"""Compiles the evaluation of a learner that predicts every query of one task once.

    For tasks with a large query set, such as all test examples of a data set. Metrics are of all
    predictions together, so they need not be means over examples; their interval is the jackknife's
    over groups of examples, each of which is left out in turn.

    Args:
      learner: adapts to the support set, if there is one; predictions are made without noise.
      metrics: metrics of the query set, by name.
      sample: draws the task.
      batch: the largest number of queries predicted at a time. Which queries are together is
        random, and the same for every model; it matters where a batch is normalized
        by its own statistics.
      spread: how the batches are spread over devices.

    Returns:
      ``(params, state, data, key) -> values`` as those of :func:`evaluator`, where
      ``values[name]`` is ``[groups]``: numbers whose mean is the metric, and whose
      :func:`summarize` has the jackknife's interval.

    Raises:
      ValueError: ``batch`` is not a positive integer or, when called, the task has no queries.

    References:
      Tukey, 1958, Bias and Confidence in Not-quite Large Samples (pseudo-values).

    >>> from jaxmeta.data import array_source, without_support
    >>> from jaxmeta.learners import fixed_classifier
    >>> from jaxmeta.losses import accuracy
    >>> from jaxmeta.nn import mlp
    >>> source = array_source([[0.0], [1.0], [2.0]], [0, 1, 1])
    >>> learner = fixed_classifier(mlp(4), mlp(2, hidden=()))
    >>> sample = without_support(source.whole)
    >>> params, state = learner.init(jax.random.key(0), sample(source.data, jax.random.key(0)))
    >>> run = over_all(learner, {"accuracy": accuracy}, sample)
    >>> values = run(params, state, source.data, jax.random.key(0))
    >>> 0 <= summarize(values["accuracy"]).mean <= 1
    True
    """
    check_count("batch", batch, least=1)

    def one(common: tuple[PyTree, PyTree, PyTree], queries: Batch) -> Array:
        return learner.predict(*common, queries.x, queries.mask)[0]

    def share(common: PyTree, batches: Batch, weights: Array) -> tuple[PyTree, Array]:
        several = vmap_tasks(one)
        return in_chunks(1)(lambda *given: ((), several(*given[:2])))(common, batches, weights)

    def run(params: PyTree, state: PyTree, data: PyTree, key: Key) -> Metrics:
        sample_key, adapt_key = jax.random.split(key)
        support, query = sample(data, sample_key)
        adapted, _ = learner.adapt(params, state, support, adapt_key)
        total = query.mask.size
        if not total:
            raise ValueError("The task has 0 queries: give one with examples to predict.")
        count = -(-total // batch)  # of batches
        # At random, and the same for every model. Batches in the order of the queries would have
        # equal shares of each class if these are sorted, and transductive statistics would know.
        order = jax.random.permutation(jax.random.key(0), total)
        groups = (order % min(GROUPS, total))[order]
        query = jax.tree.map(lambda leaf: leaf[order], query)

        def divided(leaf: Array) -> Array:
            padding = [(0, -total % count)] + [(0, 0)] * (leaf.ndim - 1)
            return jnp.pad(leaf, padding).reshape(-1, count, *leaf.shape[1:]).swapaxes(0, 1)

        batches = jax.tree.map(divided, query)
        outputs = spread(share)((params, state, adapted), batches, even_weights(count))[1]
        outputs = outputs.swapaxes(0, 1).reshape(-1, *outputs.shape[2:])[:total]
        return {
            name: pseudo_values(metric, outputs, query, groups) for name, metric in metrics.items()
        }

    return jax.jit(run, out_shardings=shared_sharding() if jax.process_count() > 1 else None)


def pseudo_values(metric: Loss, outputs: Array, query: Batch, groups: Array) -> Array:
    r"""The jackknife's pseudo-values :math:`G\hat\theta - (G - 1)\hat\theta_{-g}`, centered.

    Args:
      metric: a function of all predictions.
      outputs: predictions ``[n, ...]``.
      query: what was predicted.
      groups: int32 ``[n]``, the group of each example, 0 to G - 1.
    """
    count = min(GROUPS, query.mask.size)
    whole = metric(outputs, query.y, query.mask)
    without = jax.vmap(
        lambda group: metric(outputs, query.y, jnp.where(groups == group, 0, query.mask))
    )(jnp.arange(count))
    # Their mean is the metric itself, also where groups differ in size or the metric is no mean.
    return whole - (count - 1) * (without - jnp.mean(without))


def summarize(values: Array | np.ndarray) -> Evaluation:
    """Mean and 95% interval of values ``[episodes]``, one per episode.

    >>> summarize(np.array([0.0, 0.0, 3.0]))
    Evaluation(mean=1.0, ci95=1.96..., episodes=3)
    """
    array = np.asarray(values, np.float64)
    ci95 = 1.96 * array.std(ddof=1) / np.sqrt(array.size)
    return Evaluation(float(array.mean()), float(ci95), array.size)
