"""The minimum of a regularized loss, differentiated by an equation that it obeys."""

from typing import Any

import jax
import optax

from jaxmeta.checks import check_count
from jaxmeta.distributed.varying import varying_as
from jaxmeta.inner.leaves import check_differentiable
from jaxmeta.inner.loop import InnerLoop, InnerLoss
from jaxmeta.inner.mixed_mode import among, opened, smooth_parts
from jaxmeta.inner.unroll import unroll
from jaxmeta.types import Array, Key, Metrics, PyTree


def implicit(
    optimizer: optax.GradientTransformation,
    steps: int,
    penalty: float,
    *,
    solver: str = "conjugate_gradient",
    solver_steps: int = 5,
    damping: float = 0.0,
) -> InnerLoop:
    r"""Minimizes with a proximal term, and differentiates the minimum instead of the way there.

    .. math:: \theta^* = \arg\min_\theta L(\theta) + \frac\lambda2 \lVert\theta - \theta_0\rVert^2,
              \qquad v^\top \frac{\partial\theta^*}{\partial\theta_0}
              = u^\top, \quad \Big(I + \frac1{\lambda + \delta} \nabla^2 L(\theta^*)\Big) u = v

    Only the minimum is kept for the outer gradient, so memory does not grow with the steps. Without
    damping it is as exact as the minimum and the linear system are solved. Noise, if any, is drawn
    once for all steps, so that there is one loss to minimize.

    Args:
      optimizer: an optax transformation that minimizes.
      steps: of it.
      penalty: lambda.
      solver: of the linear system: ``"conjugate_gradient"``, or ``"neumann"``, the series
        :math:`u = \sum_j (-\nabla^2 L / (\lambda + \delta))^j v`, which converges only where the
        curvature of L is below :math:`\lambda + \delta`.
      solver_steps: iterations of conjugate gradient, or terms of the series after the first; each
        takes a product with the second derivatives, and the former one more.
      damping: delta. Where the loss is not convex the system need not be positive definite, and
        what conjugate gradient then finds points anywhere; enough damping makes it so, at the price
        of a gradient nearer to that of first-order MAML, which it becomes as the damping grows.

    Returns:
      An inner loop that learns nothing of its own; its metrics are those of :func:`unroll`, the
      proximal term included.

    Raises:
      ValueError: ``steps`` or ``solver_steps`` is no count, the penalty is not positive, the
        damping is negative, or there is no such solver.
      TypeError: when run, a fast leaf is not of a floating type.

    References:
      Rajeswaran, Finn, Kakade and Levine, 2019, Meta-Learning with Implicit Gradients, equations 3
      and 6 and algorithm 2 (their code damps); Lorraine, Vicol and Duvenaud, 2020, Optimizing
      Millions of Hyperparameters by Implicit Differentiation, section 4.1 (Neumann series).
    """
    check_count("solver_steps", solver_steps, least=1)
    if penalty <= 0:
        raise ValueError(f"penalty is {penalty}: give a positive number.")
    if damping < 0:
        raise ValueError(f"damping is {damping}: give 0 or a positive number.")
    if solver not in ("conjugate_gradient", "neumann"):
        raise ValueError(f"solver is {solver!r}: choose 'conjugate_gradient' or 'neumann'.")
    loop = unroll(optimizer, steps, first_order=True)
    damped = penalty + damping

    def run(loss: InnerLoss, fast: PyTree, hyper: PyTree, key: Key) -> tuple[PyTree, Metrics]:
        check_differentiable(fast)
        fast, key = varying_as(loss, fast, key)
        open_loss, consts = opened(loss, fast, key)

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
                return jax.tree.map(lambda leaf: leaf / damped, product)

            v = cotangents[0]
            if solver == "neumann":
                u, _ = jax.lax.scan(
                    lambda u, _: (optax.tree.sub(v, curvature(u)), None), v, length=solver_steps
                )
            else:
                system = lambda u: optax.tree.add(u, curvature(u))  # noqa: E731
                u, _ = jax.scipy.sparse.linalg.cg(system, v, maxiter=solver_steps)
            # The minimum moves with what else the loss depends on by -d2L u / (lambda + delta).
            moving, filled = smooth_parts(consts)

            def gradient_of_consts(now: PyTree) -> list[Array]:
                return jax.grad(lambda moving: open_loss(filled(moving), now, key))(moving)

            moved = jax.jvp(gradient_of_consts, (found,), (u,))[1]
            moved = [-leaf / damped for leaf in moved]
            return among(moved, consts), u, None

        minimum.defvjp(forward, backward)
        return minimum(consts, fast, key)

    return InnerLoop(lambda key, fast: (), run)
