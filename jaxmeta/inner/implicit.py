"""The minimum of a regularized loss, differentiated through the equation that it satisfies."""

from typing import Any

import jax
import optax

from jaxmeta.checks import check_count
from jaxmeta.distributed.varying import varying_as
from jaxmeta.inner.leaves import check_differentiable, merge
from jaxmeta.inner.loop import InnerLoop, InnerLoss
from jaxmeta.inner.mixed_mode import closure_convert, split_floating
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
    r"""Minimizes with a proximal term, and differentiates the minimum instead of the steps to it.

    .. math:: \theta^* = \arg\min_\theta L(\theta) + \frac\lambda2 \lVert\theta - \theta_0\rVert^2,
              \qquad v^\top \frac{\partial\theta^*}{\partial\theta_0}
              = u^\top, \quad \Big(I + \frac1{\lambda + \delta} \nabla^2 L(\theta^*)\Big) u = v

    Only the minimum is kept for the outer gradient, so memory does not grow with the steps. Without
    damping, the gradient is as exact as the solutions of the minimization and the linear system.
    Noise, if any, is drawn once for all steps, so that there is one loss to minimize.

    Args:
      optimizer: an optax transformation that minimizes.
      steps: number of optimizer steps.
      penalty: lambda, the weight of the proximal term.
      solver: solver of the linear system: ``"conjugate_gradient"``, or ``"neumann"``, the series
        :math:`u = \sum_j (-\nabla^2 L / (\lambda + \delta))^j v`, which converges only where the
        curvature of L is below :math:`\lambda + \delta`.
      solver_steps: iterations of conjugate gradient, or terms of the series after the first. Each
        takes one product with the second derivatives; conjugate gradient takes one more in total.
      damping: delta. If the loss is not convex, the system need not be positive definite, and the
        solution of conjugate gradient may point anywhere. Enough damping makes it positive
        definite, at the price of a gradient closer to first-order MAML's, its limit as delta grows.

    Returns:
      An inner loop without hyperparameters and without a path. Its metrics are those of
      :func:`unroll`, with the proximal term included.

    Raises:
      ValueError: ``steps`` is negative, ``solver_steps`` or the penalty is not positive, the
        damping is negative, or the solver is unknown.
      TypeError: when run, a fast leaf is not of a floating type.

    References:
      Rajeswaran, Finn, Kakade and Levine, 2019, Meta-Learning with Implicit Gradients, equations 3
      and 6 and algorithm 2 (their code damps); Lorraine, Vicol and Duvenaud, 2020, Optimizing
      Millions of Hyperparameters by Implicit Differentiation, section 4.1 (Neumann series).

    >>> loop = implicit(optax.sgd(0.1), steps=100, penalty=1.0)
    >>> loss = lambda theta, key: jax.numpy.sum((theta - 1.0) ** 2) / 2
    >>> theta, metrics = loop.run(loss, jax.numpy.zeros(2), (), jax.random.key(0))
    >>> jax.numpy.round(theta, 3).tolist()  # halfway between the start and the minimum of the loss
    [0.5, 0.5]
    """
    check_count("solver_steps", solver_steps, least=1)
    if penalty <= 0:
        raise ValueError(f"penalty must be positive, but is {penalty}.")
    if damping < 0:
        raise ValueError(f"damping must be 0 or more, but is {damping}.")
    if solver not in ("conjugate_gradient", "neumann"):
        raise ValueError(f"solver must be 'conjugate_gradient' or 'neumann', but is {solver!r}.")
    loop = unroll(optimizer, steps, first_order=True)
    damped = penalty + damping

    def run(loss: InnerLoss, fast: PyTree, hyper: PyTree, key: Key) -> tuple[PyTree, Metrics]:
        check_differentiable(fast)
        fast, key = varying_as(loss, fast, key)
        converted, consts = closure_convert(loss, fast, key)

        # What the loss closes over is an argument, as a custom rule may not close over it.
        @jax.custom_vjp
        def minimum(consts: list[Array], start: PyTree, key: Key) -> tuple[PyTree, Metrics]:
            def proximal(now: PyTree, _: Key) -> Array:
                distance = optax.tree.norm(optax.tree.sub(now, start), squared=True)
                return converted(consts, now, key) + penalty / 2 * distance

            return loop.run(proximal, start, (), key)

        def forward(consts: list[Array], start: PyTree, key: Key) -> tuple[Any, Any]:
            found, metrics = minimum(consts, start, key)
            return (found, metrics), (consts, found, key)

        def backward(saved: Any, cotangents: tuple[PyTree, Metrics]) -> tuple[Any, PyTree, None]:
            consts, found, key = saved

            def curvature(direction: PyTree) -> PyTree:
                """Product of the scaled second derivatives and a direction, without a matrix."""
                gradient = jax.grad(lambda now: converted(consts, now, key))
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
            # By the same equation, the derivative with respect to a constant c is
            # -d2L / (dc dtheta) u / (lambda + delta). As second derivatives are symmetric, this
            # differentiates dL / dc in the direction u of the parameters: one forward pass.
            floating, rest = split_floating(consts)

            def gradient_of_consts(now: PyTree) -> list[Array | None]:
                return jax.grad(lambda floating: converted(merge(floating, rest), now, key))(
                    floating
                )

            moved = jax.jvp(gradient_of_consts, (found,), (u,))[1]
            return jax.tree.map(lambda leaf: -leaf / damped, moved), u, None

        minimum.defvjp(forward, backward)
        return minimum(consts, fast, key)

    return InnerLoop(lambda key, fast: (), run)
