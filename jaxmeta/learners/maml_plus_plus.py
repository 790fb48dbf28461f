"""MAML++: MAML with separate step sizes, statistics and normalization weights for each step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.distributed.varying import varying_alike
from jaxmeta.inner import learning_rates, merge, partition, per_step, sgd, unroll
from jaxmeta.learners.frames.normalized import normalized
from jaxmeta.learners.frames.support import (
    check_support,
    check_ways,
    mask_absent_classes,
    present_classes,
    support_loss,
)
from jaxmeta.losses import cross_entropy
from jaxmeta.types import Array, Batch, Episode, Key, Learner, Loss, Metrics, Model, PyTree

NORMALIZATION_WEIGHTS = ("scale", "offset")


class State(NamedTuple):
    """The model's state, one row per step or one for all, and the outer steps taken (int32)."""

    model: PyTree
    outer_step: Array


class Adapted(NamedTuple):
    """The fast leaves after ``step`` steps, their support statistics, the classes present."""

    fast: PyTree
    step: Array
    statistics: PyTree
    present: Array | None


def maml_plus_plus(
    model: Model,
    ways: int | None = None,
    *,
    steps: int = 5,
    learning_rate: float = 0.1,
    learned_rates: bool = True,
    per_step_normalization: bool = True,
    first_order: bool = False,
    loss: Loss = cross_entropy,
    normalization: str = "transductive",
) -> Learner:
    r"""MAML++: MAML with the sources of its instability removed one by one.

    .. math:: \theta_{t+1} = \theta_t - \alpha_{t} \nabla L(\theta_t, \gamma_t;\, \text{support})

    with a learned step size alpha for each step and parameter array, and with normalization weights
    gamma (and running statistics) for each step, which the outer loop learns and the inner loop
    leaves unchanged. The multi-step loss and the annealing of the derivative order belong to the
    outer loop; see :func:`jaxmeta.objectives.multi_step`. With everything off, it is MAML.

    Args:
      model: its outputs are logits ``[n, ways]``, or regression values.
      ways: largest number of classes; ``None`` for regression.
      steps: T, inner steps. A learner that takes more steps than it was trained for continues with
        the rates and the normalization of the last one.
      learning_rate: initial value of the step sizes.
      learned_rates: learn a step size for each step and parameter array.
      per_step_normalization: give each step its own normalization weights (parameters named
        ``scale`` or ``offset``) and running statistics.
      first_order: drop second derivatives.
      loss: the loss of the support set.
      normalization: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page.

    Returns:
      A learner with a ``path``, parameters ``{"model": ..., "hyper": ...}`` and a :class:`State`,
      whose outer steps it passes on unchanged. Normalization weights and statistics have a leading
      axis of ``steps + 1``, where row t is for the model after t steps; the learned rates have one
      of ``steps``.

    Raises:
      ValueError: ``ways`` or ``steps`` is out of range, the normalization is unknown, or (when
        adapting) the support set does not fit.

    References:
      Antoniou, Edwards and Storkey, 2019, How to Train Your MAML, section 4.

    >>> from jaxmeta.nn import conv4
    >>> learner = maml_plus_plus(conv4(5, filters=8), ways=5, steps=3)
    >>> images = Batch(jnp.ones((5, 28, 28, 1)), jnp.arange(5), jnp.ones(5))
    >>> params, state = jax.eval_shape(learner.init, jax.random.key(0), Episode(images, images))
    >>> params["model"]["block0"]["scale"].shape, params["hyper"].rows["head"]["bias"].shape
    ((4, 8), (3,))
    """
    network = normalized(model, normalization)
    check_ways(ways)
    check_count("steps", steps)
    initial_rates = per_step(learning_rates(learning_rate, "leaf"), max(steps, 1))

    def is_fast(name: str) -> bool:
        last = name.rpartition("/")[2]
        return not (per_step_normalization and last in NORMALIZATION_WEIGHTS)

    def init(key: Key, episode: Episode) -> tuple[PyTree, State]:
        model_key, hyper_key = jax.random.split(key)
        params, state = model.init(model_key, episode.support.x)
        fast, slow = partition(params, is_fast)
        hyper = initial_rates(hyper_key, fast) if learned_rates else ()
        rows = steps + 1 if per_step_normalization else 1
        slow, state = jax.tree.map(lambda leaf: jnp.repeat(leaf[None], rows, axis=0), (slow, state))
        return {"model": merge(fast, slow), "hyper": hyper}, State(state, jnp.int32(0))

    def at(params: PyTree, state: State, fast: PyTree, step: Array) -> tuple[PyTree, PyTree]:
        """The model's parameters and state after ``step`` steps."""
        _, slow = partition(params["model"], is_fast)
        return merge(fast, row(slow, step)), row(state.model, step)

    def take_steps(
        params: PyTree, state: State, support: Batch, key: Key
    ) -> tuple[PyTree, PyTree, Metrics]:
        """The fast leaves before each step ``[T, ...]`` and after the last, and metrics."""
        check_support(support, ways)
        params, state, support, key = varying_alike(params, state, support, key)
        present = None if ways is None else present_classes(support, ways)

        def one_step(fast: PyTree, step: Array) -> tuple[PyTree, tuple[PyTree, Metrics]]:
            def inner_loss(leaves: PyTree, key: Key) -> Array:
                outputs, _ = network.on_support(*at(params, state, leaves, step), support, key)
                return support_loss(loss, outputs, support, present)

            rates = row(params["hyper"].rows, step) if learned_rates else learning_rate
            inner = unroll(sgd(rates), 1, first_order=first_order)
            after, metrics = inner.run(inner_loss, fast, (), jax.random.fold_in(key, step))
            return after, (fast, jax.tree.map(lambda value: value[0], metrics))

        start, _ = partition(params["model"], is_fast)
        last, (before, metrics) = jax.lax.scan(one_step, start, jnp.arange(steps, dtype=jnp.int32))
        return before, last, metrics

    def finish(params: PyTree, state: State, support: Batch, fast: PyTree, step: Array) -> Adapted:
        statistics = network.statistics(*at(params, state, fast, step), support)
        present = None if ways is None else present_classes(support, ways)
        return Adapted(fast, step, statistics, present)

    def adapt(params: PyTree, state: State, support: Batch, key: Key) -> tuple[Adapted, Metrics]:
        _, last, metrics = take_steps(params, state, support, key)
        return finish(params, state, support, last, jnp.int32(steps)), metrics

    def path(params: PyTree, state: State, support: Batch, key: Key) -> tuple[Adapted, Metrics]:
        before, last, metrics = take_steps(params, state, support, key)
        rows = jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), before, last)
        each = jax.vmap(lambda fast, step: finish(params, state, support, fast, step))
        return each(rows, jnp.arange(steps + 1, dtype=jnp.int32)), metrics

    def predict(
        params: PyTree,
        state: State,
        adapted: Adapted,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
    ) -> tuple[Array, State]:
        weights, averages = at(params, state, adapted.fast, adapted.step)
        outputs, used = network.on_query(weights, averages, adapted.statistics, x, mask, key)
        model_state = jax.tree.map(
            lambda rows, new: rows.at[adapted.step].set(new, mode="clip"), state.model, used
        )
        return mask_absent_classes(outputs, adapted.present), state._replace(model=model_state)

    return Learner(init, adapt, predict, path)


def row(rows: PyTree, step: Array) -> PyTree:
    """Row ``step`` of each leaf, or its last row if there are fewer."""
    return jax.tree.map(lambda leaf: jnp.take(leaf, step, axis=0, mode="clip"), rows)
