"""MAML++: MAML with step sizes, statistics and normalization weights of its own for each step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.distributed.varying import varying_alike
from jaxmeta.inner import learning_rates, merge, partition, per_step, sgd, unroll
from jaxmeta.learners.frames.support import (
    check_normalization,
    check_support,
    check_ways,
    look_at_query,
    look_at_support,
    loss_of_support,
    present_classes,
    without_absent,
)
from jaxmeta.losses import cross_entropy
from jaxmeta.types import Array, Batch, Episode, Key, Learner, Loss, Metrics, Model, PyTree

NORMALIZATION_WEIGHTS = ("scale", "offset")


class State(NamedTuple):
    """The model's state, a row for each step or one for all, and the outer steps taken."""

    model: PyTree
    outer_step: Array


class Adapted(NamedTuple):
    """The parameters before, between and after the inner steps; only the last serve to predict.

    Attributes:
      path: the fast leaves after 0, 1, ... steps.
      statistics: of the support set under each of them, when the normalization is inductive.
      present: the classes shown.
    """

    path: tuple[PyTree, ...]
    statistics: tuple[PyTree, ...]
    present: Array | None


def maml_plus_plus(
    model: Model,
    ways: int | None = None,
    *,
    steps: int = 5,
    learning_rate: float = 0.1,
    learned_rates: bool = True,
    per_step_normalization: bool = True,
    first_order_until: int = 0,
    loss: Loss = cross_entropy,
    normalization: str = "transductive",
) -> Learner:
    r"""MAML++: what made MAML unstable, mended one by one.

    .. math:: \theta_{t+1} = \theta_t - \alpha_{t} \nabla L(\theta_t, \gamma_t;\, \text{support})

    with a learned step size alpha for each step and parameter array, and normalization weights
    gamma (and running statistics) of each step, which the outer loop learns and the inner loop
    leaves alone. Its multi-step loss is :func:`jaxmeta.objectives.multi_step`. With everything off
    it is MAML.

    Args:
      model: its outputs are logits ``[n, ways]``, or regression values.
      ways: number of classes, at most; ``None`` for regression.
      steps: T, inner steps. One that takes more steps than it was trained for goes on with the
        rates and the normalization of the last.
      learning_rate: what the step sizes start from.
      learned_rates: learn a step size for each step and parameter array.
      per_step_normalization: for each step, normalization weights (parameters named ``scale`` or
        ``offset``) and running statistics of its own.
      first_order_until: drop second derivatives for so many outer steps (derivative-order
        annealing). :func:`jaxmeta.objectives.multi_step` counts them; under an objective that does
        not, every loss after the first step is not a number.
      loss: the loss of the support set.
      normalization: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page.

    Returns:
      A learner with parameters ``{"model": ..., "hyper": ...}`` and a :class:`State`.
      Normalization weights and statistics have a leading axis of ``steps + 1``, row t serving the
      model after t steps; the learned rates one of ``steps``.

    Raises:
      ValueError: ``ways``, ``steps`` or ``first_order_until`` is no count, an unknown
        normalization, or (when adapting) a support set that does not fit.

    References:
      Antoniou, Edwards and Storkey, 2019, How to Train Your MAML, section 4.
    """
    check_normalization(normalization)
    check_ways(ways)
    check_count("steps", steps)
    check_count("first_order_until", first_order_until)
    of_each_step = per_step(learning_rates(learning_rate, "leaf"), max(steps, 1))

    def is_fast(name: str) -> bool:
        last = name.rpartition("/")[2]
        return not (per_step_normalization and last in NORMALIZATION_WEIGHTS)

    def repeat(tree: PyTree) -> PyTree:
        rows = steps + 1 if per_step_normalization else 1
        return jax.tree.map(lambda leaf: jnp.repeat(leaf[None], rows, axis=0), tree)

    def at(tree: PyTree, step: int) -> PyTree:
        return jax.tree.map(lambda leaf: leaf[min(step, leaf.shape[0] - 1)], tree)

    def slow_at(slow: PyTree, step: int) -> PyTree:
        return at(slow, step) if per_step_normalization else slow

    def init(key: Key, episode: Episode) -> tuple[PyTree, State]:
        model_key, hyper_key = jax.random.split(key)
        params, state = model.init(model_key, episode.support.x)
        fast, slow = partition(params, is_fast)
        hyper = of_each_step(hyper_key, fast) if learned_rates else ()
        rows = merge(fast, repeat(slow) if per_step_normalization else slow)
        return {"model": rows, "hyper": hyper}, State(repeat(state), jnp.zeros(()))

    def adapt(params: PyTree, state: State, support: Batch, key: Key) -> tuple[Adapted, Metrics]:
        check_support(support, ways)
        params, state, support, key = varying_alike(params, state, support, key)
        present = None if ways is None else present_classes(support, ways)
        fast, slow = partition(params["model"], is_fast)

        def look(fast: PyTree, step: int, key: Key | None = None) -> tuple[Array, PyTree]:
            weights = merge(fast, slow_at(slow, step))
            return look_at_support(
                model, normalization, weights, at(state.model, step), support, key
            )

        path, reports = [fast], []
        for step in range(steps):

            def support_loss(leaves: PyTree, key: Key, step: int = step) -> Array:
                outputs, _ = look(leaves, step, key)
                return loss_of_support(loss, outputs, support, present)

            rates = at(params["hyper"].rows, step) if learned_rates else learning_rate

            def take(first_order: bool, step: int = step, rates: PyTree = rates) -> PyTree:
                loop = unroll(sgd(rates), 1, first_order=first_order)
                return loop.run(support_loss, path[-1], (), jax.random.fold_in(key, step))

            if first_order_until:
                early = state.outer_step < first_order_until
                fast, report = jax.lax.cond(early, lambda: take(True), lambda: take(False))
            else:
                fast, report = take(False)
            path.append(fast)
            reports.append(report)
        statistics = ()
        if normalization == "inductive":
            statistics = tuple(look(fast, step)[1] for step, fast in enumerate(path))
        metrics = jax.tree.map(lambda *values: jnp.concatenate(values), *reports) if steps else {}
        return Adapted(tuple(path), statistics, present), metrics

    def predict(
        params: PyTree,
        state: State,
        adapted: Adapted,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
    ) -> tuple[Array, State]:
        step = len(adapted.path) - 1
        _, slow = partition(params["model"], is_fast)
        given = adapted.statistics[step] if adapted.statistics else None
        outputs, used = look_at_query(
            model,
            normalization,
            merge(adapted.path[-1], slow_at(slow, step)),
            at(state.model, step),
            given,
            x,
            mask,
            key,
        )
        rows = jax.tree.map(
            lambda rows, row: rows.at[min(step, rows.shape[0] - 1)].set(row), state.model, used
        )
        if adapted.present is not None:
            outputs = without_absent(outputs, adapted.present)
        if not first_order_until:
            return outputs, state._replace(model=rows)
        # An objective that counts puts its count in place of this; one that does not would stay at
        # the first order for ever, and learns of it by losses that are not numbers.
        outputs += jnp.zeros_like(outputs) * state.outer_step.astype(outputs.dtype)
        return outputs, State(rows, jnp.full_like(state.outer_step, jnp.nan))

    return Learner(init, adapt, predict)


def after(adapted: Adapted, steps: int) -> Adapted:
    """What was adapted, as it was after fewer steps."""
    return adapted._replace(path=adapted.path[: steps + 1])
