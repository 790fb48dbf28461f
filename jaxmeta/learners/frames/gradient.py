"""Learning by gradient: adapt a network to the support set by an inner loop."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.distributed.varying import varying_alike
from jaxmeta.inner import InnerLoop, merge, partition
from jaxmeta.learners.frames.support import (
    check_normalization,
    check_support,
    check_ways,
    labeled,
    look_at_query,
    look_at_support,
    loss_of_support,
    present_classes,
    without_absent,
)
from jaxmeta.losses import cross_entropy
from jaxmeta.types import Array, Batch, Episode, Key, Learner, Loss, Metrics, Model, PyTree


class Adapted(NamedTuple):
    """What differs between tasks: the fast leaves, the support statistics, the classes shown."""

    fast: PyTree
    statistics: PyTree
    present: Array | None


def gradient_learner(
    model: Model,
    inner: InnerLoop,
    ways: int | None = None,
    *,
    loss: Loss = cross_entropy,
    normalization: str = "transductive",
    fast: Callable[[str], bool] = lambda name: True,
    batch: int | None = None,
) -> Learner:
    r"""Adapts a model's parameters to the support set by an inner loop, starting where learned.

    .. math:: \theta' = \mathrm{inner}\big(\theta \mapsto L(\theta; \text{support}),\, \theta,\,
              h\big), \qquad z = f_{\theta'}(\text{query})

    Args:
      model: its outputs are logits ``[n, ways]``, or regression values.
      inner: the inner loop; :func:`jaxmeta.inner.unroll` or your own.
      ways: number of classes, at most; ``None`` for regression.
      loss: the loss of the support set.
      normalization: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page.
      fast: tells by a parameter's name, as in ``"block0/kernel"``, whether it adapts. The others
        are still meta-learned (ANIL: ``lambda name: "head" in name``).
      batch: how many labeled examples of the support set each inner step draws, without
        replacement; by default it takes all, and what has no label counts in the statistics.

    Returns:
      A learner with parameters ``{"model": ..., "hyper": ...}``.

    Raises:
      ValueError: an unknown normalization, ``ways`` or ``batch`` is no count, or (when adapting) a
        support set that does not fit.
      TypeError: a fast parameter cannot be differentiated.

    References:
      Finn, Abbeel and Levine, 2017, Model-Agnostic Meta-Learning for Fast Adaptation of Deep
      Networks, algorithm 2.
    """
    check_normalization(normalization)
    check_ways(ways)
    if batch is not None:
        check_count("batch", batch, least=1)

    def init(key: Key, episode: Episode) -> tuple[PyTree, PyTree]:
        model_key, hyper_key = jax.random.split(key)
        params, state = model.init(model_key, episode.support.x)
        hyper = inner.init(hyper_key, partition(params, fast)[0])
        return {"model": params, "hyper": hyper}, state

    def adapt(params: PyTree, state: PyTree, support: Batch, key: Key) -> tuple[Adapted, Metrics]:
        check_support(support, ways)
        params, state, support, key = varying_alike(params, state, support, key)
        present = None if ways is None else present_classes(support, ways)
        start, slow = partition(params["model"], fast)

        def support_loss(leaves: PyTree, key: Key) -> Array:
            drawn = support if batch is None else draw(support, batch, jax.random.fold_in(key, 1))
            outputs, _ = look_at_support(
                model, normalization, merge(leaves, slow), state, drawn, key
            )
            return loss_of_support(loss, outputs, drawn, present)

        leaves, metrics = inner.run(support_loss, start, params["hyper"], key)
        statistics = None
        if normalization == "inductive":
            _, statistics = look_at_support(
                model, normalization, merge(leaves, slow), state, support
            )
        return Adapted(leaves, statistics, present), metrics

    def predict(
        params: PyTree,
        state: PyTree,
        adapted: Adapted,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
    ) -> tuple[Array, PyTree]:
        _, slow = partition(params["model"], fast)
        outputs, state = look_at_query(
            model,
            normalization,
            merge(adapted.fast, slow),
            state,
            adapted.statistics,
            x,
            mask,
            key,
        )
        if adapted.present is not None:
            outputs = without_absent(outputs, adapted.present)
        return outputs, state

    return Learner(init, adapt, predict)


def draw(support: Batch, size: int, key: Key) -> Batch:
    """So many different labeled examples, or all where there are fewer, and padding then."""
    known = labeled(support)
    scores = jax.random.uniform(key, known.shape, jnp.float32)
    _, rows = jax.lax.top_k(jnp.where(known > 0, scores, -1), min(size, known.size))
    drawn: Batch = jax.tree.map(lambda leaf: leaf[rows], support._replace(mask=known))
    return drawn
