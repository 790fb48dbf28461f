"""The minimum of a smooth loss, treated as a constant."""

from typing import Any

import jax
import optax

from jaxmeta.checks import check_count
from jaxmeta.inner.leaves import check_differentiable
from jaxmeta.inner.loop import InnerLoop, InnerLoss
from jaxmeta.types import Key, Metrics, PyTree


def minimize(steps: int) -> InnerLoop:
    """Minimizes a smooth loss by L-BFGS with a line search; no gradient flows through it.

    Args:
      steps: maximum number of L-BFGS steps; at a minimum, further steps change nothing.

    Returns:
      An inner loop without hyperparameters and without a path; its metrics are those of
      :func:`unroll`.

    Raises:
      ValueError: ``steps`` is negative.
      TypeError: when run, a fast leaf does not have a floating type.

    References:
      Liu and Nocedal, 1989, On the Limited Memory BFGS Method for Large Scale Optimization.

    >>> loss = lambda theta, key: jax.numpy.sum((theta - 3.0) ** 2)
    >>> theta, metrics = minimize(5).run(loss, jax.numpy.zeros(2), (), jax.random.key(0))
    >>> jax.numpy.allclose(theta, 3.0).item(), metrics["support_loss"].shape
    (True, (5,))
    """
    check_count("steps", steps)
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
