"""Learning by gradient: adapt a network to the support set by an inner loop."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from jaxmeta.inner import InnerLoop, learning_rates, merge, partition, per_step, sgd, unroll
from jaxmeta.learners.common import (
    check_normalisation,
    check_outputs,
    check_support,
    look_at_query,
    look_at_support,
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
    normalisation: str = "transductive",
    fast: Callable[[str], bool] = lambda name: True,
) -> Learner:
    r"""Adapts a model's parameters to the support set by an inner loop, starting where learned.

    .. math:: \theta' = \mathrm{inner}\big(\theta \mapsto L(\theta; \text{support}),\, \theta,\,
              h\big), \qquad z = f_{\theta'}(\text{query})

    Args:
      model: its outputs are logits ``[n, ways]``, or regression values.
      inner: the inner loop; :func:`jaxmeta.inner.unroll` or your own.
      ways: number of classes, at most; ``None`` for regression.
      loss: the loss of the support set.
      normalisation: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page.
      fast: tells by a parameter's name, as in ``"block0/kernel"``, whether it adapts. The others
        are still meta-learned (ANIL: ``lambda name: "head" in name``).

    Returns:
      A learner with parameters ``{"model": ..., "hyper": ...}``.

    Raises:
      ValueError: an unknown normalisation, or (when adapting) a support set that does not fit.
      TypeError: a fast parameter cannot be differentiated.

    References:
      Finn, Abbeel and Levine, 2017, Model-Agnostic Meta-Learning for Fast Adaptation of Deep
      Networks, algorithm 2.
    """
    check_normalisation(normalisation)

    def init(key: Key, episode: Episode) -> tuple[PyTree, PyTree]:
        model_key, hyper_key = jax.random.split(key)
        params, state = model.init(model_key, episode.support.x)
        hyper = inner.init(hyper_key, partition(params, fast)[0])
        return {"model": params, "hyper": hyper}, state

    def adapt(params: PyTree, state: PyTree, support: Batch, key: Key) -> tuple[Adapted, Metrics]:
        check_support(support, ways)
        present = None if ways is None else present_classes(support, ways)
        start, slow = partition(params["model"], fast)

        def support_loss(leaves: PyTree, key: Key) -> Array:
            outputs, _ = look_at_support(
                model, normalisation, merge(leaves, slow), state, support, key
            )
            if present is not None:
                check_outputs(outputs, present)
                outputs = without_absent(outputs, present)
            return loss(outputs, support.y, support.mask)

        leaves, metrics = inner.run(support_loss, start, params["hyper"], key)
        statistics = None
        if normalisation == "inductive":
            _, statistics = look_at_support(
                model, normalisation, merge(leaves, slow), state, support
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
            normalisation,
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


def maml(
    model: Model,
    ways: int | None = None,
    *,
    steps: int = 5,
    learning_rate: float = 0.01,
    learned_rates: str | None = None,
    rates_per_step: int | None = None,
    first_order: bool = False,
    loss: Loss = cross_entropy,
    normalisation: str = "transductive",
) -> Learner:
    r"""MAML: learn an initialisation from which a few gradient steps solve a task.

    .. math:: \theta_{t+1} = \theta_t - \alpha \nabla L(\theta_t;\, \text{support})

    and the outer loop descends the query loss at :math:`\theta_T`, through these steps.

    Args:
      model: its outputs are logits ``[n, ways]``, or regression values.
      ways: number of classes, at most; ``None`` for regression.
      steps: T, inner steps.
      learning_rate: alpha.
      learned_rates: learn alpha too: ``"loop"`` for one rate, ``"leaf"`` for one per leaf,
        ``"parameter"`` for one per parameter; ``None`` keeps it fixed.
      rates_per_step: learn a rate of its own for each of so many steps.
      first_order: drop second derivatives (first-order MAML).
      loss: the loss of the support set.
      normalisation: ``"transductive"``, ``"inductive"`` or ``"running"``.

    Returns:
      A learner with parameters ``{"model": ..., "hyper": ...}``, ``hyper`` being the learned rates.

    Raises:
      ValueError: as :func:`gradient_learner`, or the options of the rates contradict each other.

    References:
      Finn, Abbeel and Levine, 2017, equation 1 and section 5.2 (first order); Li et al., 2017,
      Meta-SGD, equation 2; Antoniou et al., 2019, How to Train Your MAML, section 4.
    """
    if learned_rates is None:
        if rates_per_step is not None:
            raise ValueError(
                f"rates_per_step is {rates_per_step} but the rates are not learned: give "
                "learned_rates too."
            )
        inner = unroll(sgd(learning_rate), steps, first_order=first_order)
    else:
        rates = learning_rates(learning_rate, learned_rates)
        if rates_per_step is not None:
            rates = per_step(rates, rates_per_step)
        inner = unroll(sgd, steps, hyper=rates, first_order=first_order)
    return gradient_learner(model, inner, ways, loss=loss, normalisation=normalisation)
