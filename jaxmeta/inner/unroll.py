"""Steps of an optax transformation, differentiated through."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxmeta.checks import check_count
from jaxmeta.distributed.varying import varying_alike, varying_as
from jaxmeta.inner.leaves import check_differentiable
from jaxmeta.inner.loop import InnerLoop, InnerLoss, LearnedOptimizer
from jaxmeta.inner.mixed_mode import mixed_mode
from jaxmeta.inner.rates import PerStep
from jaxmeta.types import Array, Key, Metrics, PyTree

Step = Callable[[Any, Array], tuple[Any, Any]]
"""``(carry, number) -> (carry, outputs)``: one step."""


def unroll(
    optimizer: optax.GradientTransformation
    | Callable[[PyTree], optax.GradientTransformation]
    | LearnedOptimizer,
    steps: int,
    *,
    hyper: Callable[[Key, PyTree], PyTree] | None = None,
    first_order: bool = False,
    truncate: int | None = None,
    differentiation: str = "mixed",
) -> InnerLoop:
    r"""Takes ``steps`` steps of an optax transformation, to be differentiated through.

    .. math:: \theta_{t+1} = \theta_t + u(\nabla L(\theta_t);\, h_t), \qquad t = 0 \dots T-1

    Args:
      optimizer: an optax transformation; a function ``(hyper) -> transformation`` if something
        about it is to be learned; or a learned optimizer with a ``hyper`` of its own, such as
        :func:`coordinatewise_lstm`. The loss is given to it, as ``value``, if its ``update`` takes
        extra arguments. Adam needs ``eps_root > 0`` to be differentiated: the square root of a zero
        second moment has no derivative.
      steps: T, number of steps; with 0, the leaves are unchanged.
      hyper: ``(key, fast) -> hyper``, the initial value of what is learned about adapting; see
        :func:`learning_rates`, and :func:`per_step` for values that differ from step to step.
      first_order: treat the inner gradient as a constant when differentiating (Finn et al., 2017,
        section 5.2). ``hyper`` still learns: only second derivatives of the loss are dropped.
      truncate: k, after how many steps the outer gradient is cut: the leaves and the optimizer's
        state are constants at the start of each stretch of k steps but the first. The memory of
        differentiating is that of k steps and of the stretches' ends. Losses along the path then
        learn from no more than k steps each, and with a loss at the end only what was learned for
        the last stretch has a gradient, which does not reach the initial leaves.
      differentiation: how the outer gradient goes through the inner ones; the three agree to
        rounding. ``"mixed"``, forward over reverse (Kemaev et al., 2025, MixFlow-MG), keeps only
        the parameters, the gradient and the optimizer's state of each step, in the same time.
        ``"reverse"`` keeps everything that a step computes. Use it for losses with a custom
        derivative, such as straight-through estimators, and for forward-mode differentiation of
        the loop itself. ``"rematerialized"`` is reverse mode that keeps only the parameters of
        each step and recomputes the rest.

    Returns:
      An inner loop with a path. Its metrics are ``support_loss`` and ``gradient_norm``, each
      ``[steps]``, both measured before the step.

    Raises:
      ValueError: ``steps`` is negative, ``truncate`` is not positive, ``hyper`` is given but the
        optimizer is not a function of it, or ``differentiation`` is none of the three.
      TypeError: when run, a fast leaf does not have a floating type.

    >>> loop = unroll(optax.sgd(0.5), steps=2)
    >>> loss, key = lambda theta, key: jnp.sum(theta**2) / 2, jax.random.key(0)
    >>> theta, metrics = loop.run(loss, jnp.array([4.0]), (), key)
    >>> theta.tolist(), metrics["support_loss"].tolist()
    ([1.0], [8.0, 2.0])
    >>> loop.path(loss, jnp.array([4.0]), (), key)[0].tolist()
    [[4.0], [2.0], [1.0]]
    """
    check_count("steps", steps)
    if truncate is not None:
        check_count("truncate", truncate, least=1)
    if differentiation not in ("mixed", "reverse", "rematerialized"):
        raise ValueError(
            "differentiation must be 'mixed', 'reverse' or 'rematerialized', but is "
            f"{differentiation!r}."
        )
    if isinstance(optimizer, LearnedOptimizer):
        hyper, optimizer = hyper or optimizer.hyper, optimizer.optimizer
    fixed = isinstance(optimizer, optax.GradientTransformation)
    if fixed and hyper is not None:
        raise ValueError(
            "hyper is given, so the optimizer must be a function of it and not a fixed "
            "transformation: give unroll(sgd, steps, hyper=...), say."
        )

    def transformation(values: PyTree, step: Array | int) -> optax.GradientTransformation:
        if fixed:
            return optimizer
        if isinstance(values, PerStep):
            values = jax.tree.map(lambda v: jnp.take(v, step, axis=0, mode="clip"), values.rows)
        return optimizer(values)

    def init(key: Key, fast: PyTree) -> PyTree:
        check_differentiable(fast)
        return () if hyper is None else hyper(key, fast)

    def take_steps(
        loss: InnerLoss, fast: PyTree, hyper: PyTree, key: Key, every: bool
    ) -> tuple[PyTree, Metrics]:
        """The leaves after the last step, or before and after every step, and metrics."""
        check_differentiable(fast)
        fast, key = varying_as(loss, fast, key)
        if differentiation == "mixed" and not first_order:
            value_and_gradient = mixed_mode(loss, fast, key)
        else:
            value_and_gradient = jax.value_and_grad(loss)

        def one_step(carry: Any, step: Array) -> tuple[Any, Any]:
            fast, optimizer_state = carry
            updated, optimizer_state, (value, gradient) = inner_step(
                value_and_gradient,
                transformation(hyper, step),
                fast,
                optimizer_state,
                jax.random.fold_in(key, step),
                first_order,
            )
            # Metrics are reported, not learned from; the norm's derivative at zero would be NaN.
            with jax.numpy_dtype_promotion("standard"):  # leaves may differ in type
                norm = optax.tree.norm(gradient)
            metrics = jax.lax.stop_gradient({"support_loss": value, "gradient_norm": norm})
            # The leaves of every step take memory, so they are returned only on request.
            return (updated, optimizer_state), (metrics, updated if every else None)

        if differentiation == "rematerialized":
            one_step = jax.checkpoint(one_step)
        # A state of zeros is the same on all devices, and what steps make of it is not.
        start = tuple(varying_alike(fast, transformation(hyper, 0).init(fast)))
        (last, _), (metrics, after) = in_stretches(one_step, start, steps, truncate or steps)
        if not every:
            return last, metrics
        return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), fast, after), metrics

    def run(loss: InnerLoss, fast: PyTree, hyper: PyTree, key: Key) -> tuple[PyTree, Metrics]:
        return take_steps(loss, fast, hyper, key, every=False)

    def path(loss: InnerLoss, fast: PyTree, hyper: PyTree, key: Key) -> tuple[PyTree, Metrics]:
        return take_steps(loss, fast, hyper, key, every=True)

    return InnerLoop(init, run, path)


def inner_step(
    value_and_gradient: Callable[[PyTree, Key], tuple[Array, PyTree]],
    optimizer: optax.GradientTransformation,
    fast: PyTree,
    state: PyTree,
    key: Key,
    first_order: bool,
) -> tuple[PyTree, PyTree, tuple[Array, PyTree]]:
    """One step of an optimizer.

    Args:
      value_and_gradient: ``(fast, key) -> (loss, gradient)``.
      optimizer: is given the loss as ``value``, if it takes extra arguments.
      fast: the leaves.
      state: the optimizer's.
      key: randomness of the loss.
      first_order: treat loss and gradient as constants.

    Returns:
      The leaves and the optimizer's state after the step, and loss and gradient before it.
    """
    value, gradient = value_and_gradient(fast, key)
    if first_order:
        value, gradient = jax.lax.stop_gradient((value, gradient))
    # Optax raises floats to the power of an integer count, which "strict" would refuse.
    with jax.numpy_dtype_promotion("standard"):
        update = optax.with_extra_args_support(optimizer).update
        updates, state = update(gradient, state, fast, value=value)
        return optax.apply_updates(fast, updates), state, (value, gradient)


def in_stretches(step: Step, start: Any, steps: int, length: int) -> tuple[Any, Any]:
    """``jax.lax.scan`` over the numbers of steps, whose derivative is cut after each stretch."""
    if length >= steps:
        return jax.lax.scan(step, start, jnp.arange(steps))

    # What happens in a stretch is computed again when it is differentiated.
    @jax.checkpoint
    def stretch(carry: Any, numbers: Array) -> tuple[Any, Any]:
        constant = jax.lax.stop_gradient(carry)
        # The initial leaves are what an outer loop may learn.
        carry = jax.tree.map(lambda a, b: jnp.where(numbers[0] > 0, a, b), constant, carry)
        return jax.lax.scan(step, carry, numbers)

    whole = steps - steps % length
    carry, outputs = jax.lax.scan(stretch, start, jnp.arange(whole).reshape(-1, length))
    outputs = jax.tree.map(lambda leaf: leaf.reshape(whole, *leaf.shape[2:]), outputs)
    if whole < steps:
        carry, rest = stretch(carry, jnp.arange(whole, steps))
        outputs = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), outputs, rest)
    return carry, outputs
