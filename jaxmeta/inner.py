"""The inner loop: how parameters adapt to one task's support set, differentiably.

``unroll`` takes steps of any optax transformation, to be differentiated through; what the outer
loop may learn *about* adapting (step sizes, a learned optimiser's weights) is its ``hyper``.
``implicit`` differentiates a minimum instead, and ``minimise`` nothing. A loop of your own is the
same pair of plain functions.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from jaxmeta.types import Array, Key, Metrics, PyTree

InnerLoss = Callable[[PyTree, Key], Array]
"""``(fast, key) -> scalar``: the support loss as a function of the leaves that adapt."""


class Run(Protocol):
    """Adapts to one task."""

    def __call__(
        self, loss: InnerLoss, fast: PyTree, hyper: PyTree, key: Key
    ) -> tuple[PyTree, Metrics]:
        """Returns the adapted leaves and metrics of the adaptation, usually one value a step."""


class InnerLoop(NamedTuple):
    """How leaves adapt to a task.

    Attributes:
      init: ``(key, fast) -> hyper``, whatever the outer loop may learn about adapting; ``()`` when
        that is nothing.
      run: see :class:`Run`.
    """

    init: Callable[[Key, PyTree], PyTree]
    run: Run


def unroll(
    optimiser: optax.GradientTransformation | Callable[[PyTree], optax.GradientTransformation],
    steps: int,
    *,
    hyper: Callable[[Key, PyTree], PyTree] | None = None,
    first_order: bool = False,
    differentiation: str = "mixed",
) -> InnerLoop:
    r"""Takes ``steps`` steps of any optax transformation, to be differentiated through.

    .. math:: \theta_{t+1} = \theta_t + u(\nabla L(\theta_t);\, h_t), \qquad t = 0 \dots T-1

    Args:
      optimiser: an optax transformation, or a function ``hyper -> transformation``, when something
        about it is to be learned. Adam needs ``eps_root > 0`` to be differentiated: the square root
        of a zero second moment has no derivative.
      steps: T; 0 leaves the leaves as they are.
      hyper: ``(key, fast) -> hyper``, the initial value of what is learned about adapting; see
        :func:`learning_rates`, and :func:`per_step` for values of its own for each step.
      first_order: treat the inner gradient as a constant when differentiating (Finn et al., 2017,
        section 5.2). ``hyper`` still learns: only second derivatives of the loss are dropped.
      differentiation: how the outer gradient goes through the inner ones; the three agree to
        rounding. ``"mixed"``, forward over reverse (Kemaev et al., 2025, MixFlow-MG), keeps of each
        step only the parameters, the gradient and the optimiser's state, in the same time.
        ``"reverse"`` keeps all that a step computed, and serves losses with a derivative of their
        own making, such as straight-through estimators, and forward-mode differentiation of the
        loop itself.
        ``"rematerialised"`` is reverse that keeps only each step's parameters and computes the
        rest again.

    Returns:
      An inner loop; its metrics are ``support_loss`` and ``gradient_norm``, each ``[steps]``, both
      measured before the step.

    Raises:
      ValueError: ``steps`` is negative, ``hyper`` is given to an optimiser that takes none, or
        ``differentiation`` is none of the three.
      TypeError: when run, a fast leaf is not of a floating type.
    """
    if steps < 0:
        raise ValueError(f"steps is {steps}: an inner loop takes 0 steps or more.")
    if differentiation not in ("mixed", "reverse", "rematerialised"):
        raise ValueError(
            f"differentiation is {differentiation!r}: choose 'mixed', 'reverse' or "
            "'rematerialised'."
        )
    fixed = isinstance(optimiser, optax.GradientTransformation)
    if fixed and hyper is not None:
        raise ValueError(
            "hyper is given, but the optimiser is a fixed transformation: pass a function of hyper."
        )

    def transformation(values: PyTree, step: Array | int) -> optax.GradientTransformation:
        if fixed:
            return optimiser
        if isinstance(values, PerStep):
            values = jax.tree.map(lambda v: jnp.take(v, step, axis=0, mode="clip"), values.rows)
        return optimiser(values)

    def init(key: Key, fast: PyTree) -> PyTree:
        check_differentiable(fast)
        return () if hyper is None else hyper(key, fast)

    def run(loss: InnerLoss, fast: PyTree, hyper: PyTree, key: Key) -> tuple[PyTree, Metrics]:
        check_differentiable(fast)
        if differentiation == "mixed" and not first_order:
            value_and_gradient = mixed_mode(loss, fast, key)
        else:
            value_and_gradient = jax.value_and_grad(loss)

        def one_step(carry: Any, step: Array) -> tuple[Any, Metrics]:
            fast, optimiser_state = carry
            value, gradient = value_and_gradient(fast, jax.random.fold_in(key, step))
            if first_order:
                gradient = jax.lax.stop_gradient(gradient)
            # Optax raises floats to the power of an integer count, which "strict" would refuse.
            with jax.numpy_dtype_promotion("standard"):
                updates, optimiser_state = transformation(hyper, step).update(
                    gradient, optimiser_state, fast
                )
                updated = optax.apply_updates(fast, updates)
            # Metrics are reported, not learned from; the norm's derivative at zero would be NaN.
            metrics = jax.lax.stop_gradient(
                {"support_loss": value, "gradient_norm": optax.tree.norm(gradient)}
            )
            return (updated, optimiser_state), metrics

        if differentiation == "rematerialised":
            one_step = jax.checkpoint(one_step)
        start = (fast, transformation(hyper, 0).init(fast))
        (fast, _), metrics = jax.lax.scan(one_step, start, jnp.arange(steps))
        return fast, metrics

    return InnerLoop(init, run)


def mixed_mode(
    loss: InnerLoss, fast: PyTree, key: Key
) -> Callable[[PyTree, Key], tuple[Array, PyTree]]:
    r"""A loss's value and gradient, itself differentiated in reverse by going forward.

    The outer gradient needs products of a vector v with the second derivatives of the loss,
    :math:`v^\top \partial^2 L / \partial\theta\,\partial(\theta, c)`, where c is whatever else
    the loss depends on. As second derivatives are symmetric, all of them are the derivative of
    :math:`\nabla_{(\theta, c)} L` in the direction v of theta: one forward pass over the gradient,
    for which nothing of the inner gradient's own backward pass need be kept.

    Args:
      loss: ``(fast, key) -> scalar``; it may close over arrays being differentiated or mapped.
      fast: parameters, of the shapes that it will be called with.
      key: a key like those that it will be called with.

    Returns:
      ``(fast, key) -> (value, gradient)``, as ``jax.value_and_grad(loss)``.

    References:
      Kemaev et al., 2025, Scalable Meta-Learning via Mixed-Mode Differentiation.
    """
    open_loss, consts = _opened(loss, fast, key)

    @jax.custom_vjp
    def value_and_gradient(consts: list[Array], fast: PyTree, key: Key) -> tuple[Array, PyTree]:
        return jax.value_and_grad(open_loss, argnums=1)(consts, fast, key)

    def forward(consts: list[Array], fast: PyTree, key: Key) -> tuple[Any, Any]:
        # Not by calling the function above: with what a custom rule leaves inside a scan, jax 0.10
        # mixes up the residuals of a further reverse pass.
        result = jax.value_and_grad(open_loss, argnums=1)(consts, fast, key)
        return result, (consts, fast, key)

    def backward(saved: Any, cotangents: tuple[Array, PyTree]) -> tuple[Any, PyTree, None]:
        consts, fast, key = saved
        of_value, of_gradient = cotangents
        moving, filled = _smooth(consts)

        def gradients(fast: PyTree) -> tuple[list[Array], PyTree]:
            def of(moving: list[Array], fast: PyTree) -> Array:
                return open_loss(filled(moving), fast, key)

            return jax.grad(of, argnums=(0, 1))(moving, fast)

        first, second = jax.jvp(gradients, (fast,), (of_gradient,))
        moved, of_fast = jax.tree.map(lambda g, h: of_value.astype(g.dtype) * g + h, first, second)
        return _spread(moved, consts), of_fast, None

    value_and_gradient.defvjp(forward, backward)
    return lambda fast, key: value_and_gradient(consts, fast, key)


OpenLoss = Callable[[list[Array], PyTree, Key], Array]


def _opened(loss: InnerLoss, fast: PyTree, key: Key) -> tuple[OpenLoss, list[Array]]:
    """A loss of what it closes over as well, through which a custom rule sends derivatives."""
    traced = jax.make_jaxpr(loss)(fast, key)

    def open_loss(consts: list[Array], fast: PyTree, key: Key) -> Array:
        closed = ClosedJaxpr(traced.jaxpr, consts)
        return jaxpr_as_fun(closed)(*jax.tree.leaves((fast, key)))[0]

    return open_loss, traced.consts


def _smooth(consts: list[Array]) -> tuple[list[Array], Callable[[list[Array]], list[Array]]]:
    """Those that have a derivative, and how to put others in their places."""
    smooth = [jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) for leaf in consts]

    def filled(moving: list[Array]) -> list[Array]:
        rest = iter(moving)
        return [next(rest) if yes else leaf for yes, leaf in zip(smooth, consts, strict=True)]

    return [leaf for yes, leaf in zip(smooth, consts, strict=True) if yes], filled


def _spread(moved: list[Array], consts: list[Array]) -> list[Array | None]:
    """Derivatives of those that have one, ``None`` for the others."""
    rest = iter(moved)
    return [
        next(rest) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) else None
        for leaf in consts
    ]


def implicit(
    optimiser: optax.GradientTransformation,
    steps: int,
    penalty: float,
    *,
    solver: str = "conjugate_gradient",
    solver_steps: int = 5,
) -> InnerLoop:
    r"""Minimises with a proximal term, and differentiates the minimum instead of the way there.

    .. math:: \theta^* = \arg\min_\theta L(\theta) + \frac\lambda2 \lVert\theta - \theta_0\rVert^2,
              \qquad v^\top \frac{\partial\theta^*}{\partial\theta_0}
              = u^\top, \quad \Big(I + \frac1\lambda \nabla^2 L(\theta^*)\Big) u = v

    Only the minimum is kept for the outer gradient, so memory does not grow with the steps. It is
    as exact as the minimum and the linear system are solved. Noise, if any, is drawn once for all
    steps, so that there is one loss to minimise.

    Args:
      optimiser: an optax transformation that minimises.
      steps: of it.
      penalty: lambda. The Neumann series converges only where the curvature of L is below it.
      solver: of the linear system: ``"conjugate_gradient"``, or ``"neumann"``, the series
        :math:`u = \sum_j (-\nabla^2 L / \lambda)^j v`.
      solver_steps: iterations of conjugate gradient, or terms of the series after the first; each
        takes a product with the second derivatives, and the former one more.

    Returns:
      An inner loop that learns nothing of its own; its metrics are those of :func:`unroll`, the
      proximal term included.

    Raises:
      ValueError: ``steps`` or ``solver_steps`` is negative, the penalty is not positive, or there
        is no such solver.
      TypeError: when run, a fast leaf is not of a floating type.

    References:
      Rajeswaran, Finn, Kakade and Levine, 2019, Meta-Learning with Implicit Gradients, equations 3
      and 6 and algorithm 2; Lorraine, Vicol and Duvenaud, 2020, Optimizing Millions of
      Hyperparameters by Implicit Differentiation, section 4.1 (Neumann series).
    """
    if penalty <= 0 or solver_steps < 0:
        raise ValueError(
            f"penalty is {penalty} and solver_steps {solver_steps}: give a positive penalty and 0 "
            "steps or more."
        )
    if solver not in ("conjugate_gradient", "neumann"):
        raise ValueError(f"solver is {solver!r}: choose 'conjugate_gradient' or 'neumann'.")
    loop = unroll(optimiser, steps, first_order=True)

    def run(loss: InnerLoss, fast: PyTree, hyper: PyTree, key: Key) -> tuple[PyTree, Metrics]:
        check_differentiable(fast)
        open_loss, consts = _opened(loss, fast, key)

        @jax.custom_vjp
        def minimum(consts: list[Array], start: PyTree, key: Key) -> tuple[PyTree, Metrics]:
            def proximal(now: PyTree, _: Key) -> Array:
                apart = optax.tree.norm(optax.tree.sub(now, start), squared=True)
                return open_loss(consts, now, key) + penalty / 2 * apart

            return loop.run(proximal, start, (), key)

        def forward(consts: list[Array], start: PyTree, key: Key) -> tuple[Any, Any]:
            found, metrics = minimum(consts, start, key)
            return (found, metrics), (consts, found, key)

        def backward(saved: Any, cotangents: tuple[PyTree, Metrics]) -> tuple[Any, PyTree, None]:
            consts, found, key = saved

            def curvature(direction: PyTree) -> PyTree:
                gradient = jax.grad(lambda now: open_loss(consts, now, key))
                product = jax.jvp(gradient, (found,), (direction,))[1]
                return jax.tree.map(lambda leaf: leaf / penalty, product)

            v = cotangents[0]
            if solver == "neumann":
                u, _ = jax.lax.scan(
                    lambda u, _: (optax.tree.sub(v, curvature(u)), None), v, length=solver_steps
                )
            else:
                system = lambda u: optax.tree.add(u, curvature(u))  # noqa: E731
                u, _ = jax.scipy.sparse.linalg.cg(system, v, maxiter=solver_steps)
            # The minimum moves with what else the loss depends on by -(1/lambda) d2L u.
            moving, filled = _smooth(consts)

            def gradient_of_consts(now: PyTree) -> list[Array]:
                return jax.grad(lambda moving: open_loss(filled(moving), now, key))(moving)

            moved = jax.jvp(gradient_of_consts, (found,), (u,))[1]
            moved = [-leaf / penalty for leaf in moved]
            return _spread(moved, consts), u, None

        minimum.defvjp(forward, backward)
        return minimum(consts, fast, key)

    return InnerLoop(lambda key, fast: (), run)


def minimise(steps: int) -> InnerLoop:
    """Minimises a smooth loss by L-BFGS with a line search; nothing is differentiated through it.

    Args:
      steps: at most; a loss that is at its minimum stays there.

    Returns:
      An inner loop that learns nothing; its metrics are those of :func:`unroll`.

    Raises:
      ValueError: ``steps`` is negative.
    """
    if steps < 0:
        raise ValueError(f"steps is {steps}: an inner loop takes 0 steps or more.")
    solver = optax.lbfgs()

    def run(loss: InnerLoss, fast: PyTree, hyper: PyTree, key: Key) -> tuple[PyTree, Metrics]:
        check_differentiable(fast)
        value_and_gradient = optax.value_and_grad_from_state(lambda now: loss(now, key))

        def one_step(carry: Any, _: None) -> tuple[Any, Metrics]:
            now, state = carry
            value, gradient = value_and_gradient(now, state=state)
            updates, state = solver.update(
                gradient,
                state,
                now,
                value=value,
                grad=gradient,
                value_fn=lambda now: loss(now, key),
            )
            norm = optax.tree.norm(gradient)
            return (optax.apply_updates(now, updates), state), {
                "support_loss": value,
                "gradient_norm": norm,
            }

        with jax.numpy_dtype_promotion("standard"):
            (found, _), metrics = jax.lax.scan(one_step, (fast, solver.init(fast)), length=steps)
        return jax.lax.stop_gradient((found, metrics))

    return InnerLoop(lambda key, fast: (), run)


def sgd(rates: PyTree) -> optax.GradientTransformation:
    """Gradient descent, each update ``-rate * gradient``, with rates that may be learned.

    Args:
      rates: a scalar, or a pytree of the parameters' structure holding a scalar or an array of the
        parameter's shape for each leaf; see :func:`learning_rates`.
    """

    def update(gradient: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Any]:
        if jax.tree_util.treedef_is_leaf(jax.tree.structure(rates)):
            return jax.tree.map(lambda g: -rates * g, gradient), state
        return jax.tree.map(lambda rate, g: -rate * g, rates, gradient), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def learning_rates(value: float, granularity: str = "loop") -> Callable[[Key, PyTree], PyTree]:
    """Initial step sizes to be meta-learned, for ``unroll(sgd, hyper=learning_rates(...))``.

    Args:
      value: the rate that learning starts from.
      granularity: ``"loop"`` for one rate, ``"leaf"`` for one per leaf, ``"parameter"`` for one per
        parameter (Meta-SGD; Li et al., 2017).

    Returns:
      ``(key, fast) -> rates``.

    Raises:
      ValueError: the granularity is none of the three.
    """
    if granularity not in ("loop", "leaf", "parameter"):
        raise ValueError(f"granularity is {granularity!r}: choose 'loop', 'leaf' or 'parameter'.")

    def init(key: Key, fast: PyTree) -> PyTree:
        if granularity == "loop":
            return jnp.full((), value, jnp.result_type(*jax.tree.leaves(fast)))
        own = granularity == "parameter"
        return jax.tree.map(
            lambda leaf: jnp.full(leaf.shape if own else (), value, leaf.dtype), fast
        )

    return init


class PerStep(NamedTuple):
    """Hyper-parameters of each step, each leaf with a leading axis of steps."""

    rows: PyTree


def per_step(
    hyper: Callable[[Key, PyTree], PyTree], steps: int
) -> Callable[[Key, PyTree], PerStep]:
    """Gives each step hyper-parameters of its own, all starting from the same values.

    Step t of :func:`unroll` uses row t. Steps beyond the last row use the last row, so that a loop
    may run longer than it was trained for.

    Args:
      hyper: ``(key, fast) -> values`` for one step.
      steps: how many rows.

    Returns:
      ``(key, fast) -> PerStep``.

    References:
      Antoniou et al., 2019, How to Train Your MAML, section 4, learns rates per layer and step.
    """

    def init(key: Key, fast: PyTree) -> PerStep:
        values = hyper(key, fast)
        return PerStep(
            jax.tree.map(lambda v: jnp.repeat(jnp.asarray(v)[None], steps, axis=0), values)
        )

    return init


def path_name(path: tuple[Any, ...]) -> str:
    """The name of a leaf, as in ``"block0/kernel"``."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def partition(params: PyTree, fast: Callable[[str], bool]) -> tuple[PyTree, PyTree]:
    """Splits parameters into those that adapt and the rest, ``None`` standing in for the other.

    Args:
      params: any pytree.
      fast: tells by a leaf's name, as in ``"block0/kernel"``, whether it adapts.

    Returns:
      ``(fast, slow)``, both of the structure of ``params``; :func:`merge` is the inverse.

    Raises:
      ValueError: no leaf adapts.
    """
    chosen = jax.tree_util.tree_map_with_path(lambda path, _: fast(path_name(path)), params)
    if not any(jax.tree.leaves(chosen)):
        names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        raise ValueError(f"No parameter adapts: `fast` chose none of {', '.join(names)}.")
    return (
        jax.tree.map(lambda leaf, yes: leaf if yes else None, params, chosen),
        jax.tree.map(lambda leaf, yes: None if yes else leaf, params, chosen),
    )


def merge(fast: PyTree, slow: PyTree) -> PyTree:
    """Puts together what :func:`partition` took apart."""
    return jax.tree.map(
        lambda a, b: b if a is None else a, fast, slow, is_leaf=lambda leaf: leaf is None
    )


def check_differentiable(fast: PyTree) -> None:
    """Raises ``TypeError`` naming the first leaf that no gradient can move."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(fast):
        dtype = jnp.asarray(leaf).dtype
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"Parameter '{path_name(path)}' is of type {dtype}, which no gradient can move: "
                "make it floating, or a constant of the model instead of a parameter."
            )
