"""Learning by gradient: adapt a network to the support set by an inner loop."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from jaxmeta.checks import check_count
from jaxmeta.inner import InnerLoop, merge, partition
from jaxmeta.learners.frames.adaptation import Problem, by_inner_loop
from jaxmeta.learners.frames.normalized import normalized
from jaxmeta.learners.frames.support import (
    check_support,
    check_ways,
    draw_minibatch,
    mask_absent_classes,
    present_classes,
    support_loss,
)
from jaxmeta.losses import cross_entropy
from jaxmeta.types import Array, Batch, Episode, Key, Learner, Loss, Model, PyTree


class Adapted(NamedTuple):
    """What differs between tasks: the fast leaves, the support statistics, the classes present."""

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
    r"""Adapts a model's parameters to the support set by an inner loop from a learned start.

    .. math:: \theta' = \mathrm{inner}\big(\theta \mapsto L(\theta; \text{support}),\, \theta,\,
              h\big), \qquad z = f_{\theta'}(\text{query})

    Args:
      model: its outputs are logits ``[n, ways]``, or regression values.
      inner: the inner loop, such as :func:`jaxmeta.inner.unroll` or your own.
      ways: largest number of classes; ``None`` for regression.
      loss: the loss of the support set.
      normalization: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page.
      fast: whether a parameter adapts, by its name, as in ``"block0/kernel"``. The others are still
        meta-learned (ANIL: ``lambda name: "head" in name``).
      batch: number of labeled examples of the support set that each inner step draws, without
        replacement. By default a step uses the whole support set, in which examples without a
        label count only in the statistics.

    Returns:
      A learner with parameters ``{"model": ..., "hyper": ...}``. It has a ``path`` if the inner
      loop has one.

    Raises:
      ValueError: the normalization is unknown, ``ways`` or ``batch`` is not a positive integer, or
        (when adapting) the support set does not fit.
      TypeError: a fast parameter cannot be differentiated.

    References:
      Finn, Abbeel and Levine, 2017, Model-Agnostic Meta-Learning for Fast Adaptation of Deep
      Networks, algorithm 2.

    >>> import optax
    >>> from jaxmeta.inner import unroll
    >>> from jaxmeta.nn import conv4
    >>> inner = unroll(optax.sgd(0.1, momentum=0.9), steps=5)
    >>> learner = gradient_learner(conv4(5), inner, ways=5, fast=lambda name: "head" in name)
    """
    network = normalized(model, normalization)
    check_ways(ways)
    if batch is not None:
        check_count("batch", batch, least=1)

    def init(key: Key, episode: Episode) -> tuple[PyTree, PyTree]:
        model_key, hyper_key = jax.random.split(key)
        params, state = model.init(model_key, episode.support.x)
        hyper = inner.init(hyper_key, partition(params, fast)[0])
        return {"model": params, "hyper": hyper}, state

    def problem(params: PyTree, state: PyTree, support: Batch) -> Problem:
        check_support(support, ways)
        present = None if ways is None else present_classes(support, ways)
        start, slow = partition(params["model"], fast)

        def inner_loss(leaves: PyTree, key: Key) -> Array:
            drawn = support
            if batch is not None:
                draw_key, key = jax.random.split(key)
                drawn = draw_minibatch(support, batch, draw_key)
            outputs, _ = network.on_support(merge(leaves, slow), state, drawn, key)
            return support_loss(loss, outputs, drawn, present)

        def finish(leaves: PyTree) -> Adapted:
            statistics = network.statistics(merge(leaves, slow), state, support)
            return Adapted(leaves, statistics, present)

        return Problem(inner_loss, start, finish)

    def predict(
        params: PyTree,
        state: PyTree,
        adapted: Adapted,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
    ) -> tuple[Array, PyTree]:
        _, slow = partition(params["model"], fast)
        weights = merge(adapted.fast, slow)
        outputs, state = network.on_query(weights, state, adapted.statistics, x, mask, key)
        return mask_absent_classes(outputs, adapted.present), state

    adapt, path = by_inner_loop(inner, problem)
    return Learner(init, adapt, predict, path)
