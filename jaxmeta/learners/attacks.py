"""Adversaries: how a model is tuned to a harmful task, by one who has it and a few examples."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxmeta.checks import check_count
from jaxmeta.inner import InnerLoop, drawn_rate, unroll
from jaxmeta.learners.frames.heads import Head, head_learner, mean_head, zero_head
from jaxmeta.learners.frames.restarted import Learned, restarted
from jaxmeta.learners.scratch import anew
from jaxmeta.types import Array, Learner, Model, PyTree

Optimizer = Callable[..., optax.GradientTransformation]
OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": optax.sgd,
    "momentum": partial(optax.sgd, momentum=0.9),
    "adam": optax.adam,
    "adagrad": optax.adagrad,
}
RATES = (1e-5, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0)
"""The rates at which each attack is tried."""


def adversary(
    model: Model,
    ways: int,
    *,
    steps: int = 16,
    least_rate: float = 1e-3,
    most_rate: float = 1.0,
    optimizer: str = "sgd",
    reset: int = 0,
    first_order: bool = True,
    normalization: str = "transductive",
) -> Learner:
    r"""Tunes all of a model and a linear layer on the support set, at a rate drawn for each task.

    The layer starts from the class means, and gradients are clipped to a norm of 1. For
    :func:`jaxmeta.objectives.blocked`.

    Args:
      model: features f, ``[n, ...]`` to ``[n, d]``.
      ways: largest number of classes.
      steps: number of steps; 0 compares with the class means as they are.
      least_rate: the smallest rate.
      most_rate: the largest rate.
      optimizer: ``"sgd"``, ``"momentum"``, ``"adam"`` or ``"adagrad"``.
      reset: how many of the last parts of the model are initialized anew before, as the parts below
        them are what a defense is then left with.
      first_order: treat the inner gradient as a constant when differentiating. In second order,
        ``"adam"`` and ``"adagrad"`` have no derivative where a gradient is 0.
      normalization: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page.

    Returns:
      A learner with a ``path`` that takes only ``"model"`` from the parameters.

    Raises:
      ValueError: there is no such optimizer, a rate is not positive, a count is negative, or as for
        :func:`jaxmeta.learners.head_learner`.

    >>> from jaxmeta.nn import conv4
    >>> learner = adversary(conv4(), ways=5)
    """
    _check_optimizer(optimizer)
    check_count("reset", reset)
    # Without clipping, the highest rates would diverge, and with them the outer loss.
    clipped = _clipped(OPTIMIZERS[optimizer])
    loop = drawn_rate(clipped, steps, least_rate, most_rate, first_order=first_order)
    learner = _tuned(model, loop, ways, normalization=normalization)
    return restarted(learner, _reset(reset)) if reset else learner


class Tuning(NamedTuple):
    """How an attack of :func:`attacks` descends.

    Attributes:
      optimizer: int32, the place of one of :data:`OPTIMIZERS`.
      rate: its learning rate, or a schedule.
    """

    optimizer: Array
    rate: Array | optax.Schedule


def tuning(optimizer: str, rate: float) -> Tuning:
    """An optimizer, by its name, and its rate.

    Raises:
      ValueError: there is no such optimizer.

    >>> [each.item() for each in tuning("adam", 0.5)]
    [2, 0.5]
    """
    _check_optimizer(optimizer)
    return Tuning(jnp.int32([*OPTIMIZERS].index(optimizer)), jnp.float32(rate))


def attacks(model: Model, ways: int, *, steps: int = 1_000) -> dict[str, Learner]:
    r"""The grid of attacks: what an adversary may try on a model, by any optimizer at any rate.

    - ``means`` and ``zeros``: all of the model, and a linear layer that starts from the class means
      or from zeros, on the whole support set; ``means, 16`` and ``zeros, 16``: on 16 examples a
      step;
    - ``frozen``: the layer alone, from the class means.

    And, from the class means on the whole support set, what is to undo a defense:

    - ``reset_1``, ``reset_2``: the last part of the model, or two, initialized anew;
    - ``rescaled``: each parameter scaled to the norm of a new one, as a defense may hide in scale;
    - ``inductive``: queries normalized by the support set's statistics;
    - ``clipped``: gradients clipped to a norm of 1;
    - ``warmed_up``: a rate that rises over the first tenth of the steps.

    All but the inductive one normalize by the statistics of what they see, so that none is misled
    by averages of training.

    Args:
      model: features f, ``[n, ...]`` to ``[n, d]``, whose parameters are a dictionary of its parts,
        the last one last.
      ways: largest number of classes.
      steps: T; ``path`` has what fewer steps lead to, and keeps the parameters after each.

    Returns:
      Learners by name, with a ``path``. Their parameters are ``{"model": ..., "hyper": Tuning}``,
      so one compiled program serves all of :data:`OPTIMIZERS` and :data:`RATES`. See
      :func:`on_new_network` for the bound.

    Raises:
      ValueError: ``ways`` or ``steps`` is not a positive integer.

    References:
      Henderson et al., 2023, Self-Destructing Models: Increasing the Costs of Harmful Dual Uses of
      Foundation Models (rates, steps, heads); Qi et al., 2024, On Evaluating the Durability of
      Safeguards for Open-Weight LLMs (why so many).

    >>> from jaxmeta.nn import mlp
    >>> from jaxmeta.types import Batch
    >>> model = mlp(8)
    >>> support = Batch(jnp.ones((2, 3)), jnp.arange(2), jnp.ones(2))
    >>> params = {"model": model.init(jax.random.key(0), support.x)[0]}
    >>> params["hyper"] = tuning("adam", 0.01)
    >>> attack = attacks(model, ways=2, steps=5)["means"]
    >>> adapted, metrics = attack.adapt(params, {}, support, jax.random.key(1))
    >>> metrics["support_loss"].shape
    (5,)
    """
    check_count("steps", steps, least=1)
    means, zeros, loop = mean_head(), zero_head(), _loop(any_optimizer, steps)
    plain = _tuned(model, loop, ways)
    return {
        "means": plain,
        "means, 16": _tuned(model, loop, ways, batch=16),
        "zeros": _tuned(model, loop, ways, head=zeros),
        "zeros, 16": _tuned(model, loop, ways, head=zeros, batch=16),
        "frozen": head_learner(model, means, loop, ways),
        "reset_1": restarted(plain, _reset(1)),
        "reset_2": restarted(plain, _reset(2)),
        "rescaled": restarted(plain, _rescaled),
        "inductive": _tuned(model, loop, ways, normalization="inductive"),
        "clipped": _tuned(model, _loop(_clipped(any_optimizer), steps), ways),
        "warmed_up": _tuned(model, _loop(_warmed_up(max(steps // 10, 1)), steps), ways),
    }


def any_optimizer(chosen: Tuning) -> optax.GradientTransformation:
    """The optimizer of a tuning, which may be known only when a compiled program runs."""
    each = [make(chosen.rate) for make in OPTIMIZERS.values()]

    def init(params: PyTree) -> PyTree:
        return [optimizer.init(params) for optimizer in each]

    def update(gradient: PyTree, states: Any, params: PyTree = None) -> tuple[PyTree, PyTree]:
        pairs = zip(each, states, strict=True)
        results = [optimizer.update(gradient, state, params) for optimizer, state in pairs]
        updates = jax.tree.map(
            lambda *cases: jax.lax.select_n(chosen.optimizer, *cases),
            *(one for one, _ in results),
        )
        return updates, [state for _, state in results]

    return optax.GradientTransformation(init, update)


def on_new_network(attack: Learner) -> Learner:
    """An attack that starts from a new network in each task: training from scratch, the bound.

    Args:
      attack: one of :func:`attacks`, of whose parameters it takes only the tuning.

    >>> from jaxmeta.nn import mlp
    >>> bound = {name: on_new_network(each) for name, each in attacks(mlp(8), ways=2).items()}
    """
    return restarted(attack, anew)


def _check_optimizer(name: str) -> None:
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer is {name!r}: choose one of {', '.join(OPTIMIZERS)}.")


def _loop(optimizer: Callable[[Tuning], optax.GradientTransformation], steps: int) -> InnerLoop:
    # First order: nothing upstream of an attack is learned.
    return unroll(optimizer, steps, hyper=lambda key, fast: tuning("sgd", 1e-2), first_order=True)


def _tuned(
    model: Model, loop: InnerLoop, ways: int, head: Head | None = None, **options: Any
) -> Learner:
    """A learner of all of a model and a linear layer."""
    return head_learner(model, head or mean_head(), loop, ways, fast=lambda name: True, **options)


def check_parts(model: PyTree, least: int) -> None:
    """Raises ``ValueError`` unless a model's parameters are a dictionary of so many parts."""
    if not isinstance(model, Mapping) or len(model) < least:
        what = f"{len(model)} parts" if isinstance(model, Mapping) else type(model).__name__
        raise ValueError(
            f"The model's parameters are {what}, of which the last {least} cannot be initialized "
            "anew: give a model whose parameters are a dictionary of its parts, the last one last."
        )


def _reset(parts: int) -> Callable[[Learned, Learned], Learned]:
    """The last parts of the model as they are initialized."""

    def start(given: Learned, fresh: Learned) -> Learned:
        model: Mapping[str, PyTree] = fresh[0]["model"]
        check_parts(model, parts)
        last = {name: model[name] for name in list(model)[-parts:]}
        return {**given[0], "model": {**given[0]["model"], **last}}, given[1]

    return start


def _rescaled(given: Learned, fresh: Learned) -> Learned:
    """Each parameter with the norm that it has at first; those that are zero at first stay."""

    def scaled(leaf: Array, new: Array) -> Array:
        own, wanted = (jnp.sqrt(jnp.sum(each**2)) for each in (leaf, new))
        usable = (own > 0) & (wanted > 0)
        return jnp.where(usable, wanted / jnp.where(usable, own, 1), 1) * leaf

    model = jax.tree.map(scaled, given[0]["model"], fresh[0]["model"])
    return {**given[0], "model": model}, given[1]


def _clipped(
    optimizer: Callable[[Any], optax.GradientTransformation],
) -> Callable[[Any], optax.GradientTransformation]:
    return lambda chosen: optax.chain(optax.clip_by_global_norm(1.0), optimizer(chosen))


def _warmed_up(early: int) -> Callable[[Tuning], optax.GradientTransformation]:
    """The rate rises over so many steps."""

    def warm(chosen: Tuning) -> optax.GradientTransformation:
        rate = chosen.rate
        return any_optimizer(
            chosen._replace(rate=lambda count: rate * jnp.minimum((count + 1) / early, 1))
        )

    return warm
