"""The minimum of a smooth loss, through which nothing is differentiated."""

from typing import Any

import jax
import optax

from jaxmeta.checks import check_count
from jaxmeta.inner.leaves import check_differentiable
from jaxmeta.inner.loop import InnerLoop, InnerLoss
from jaxmeta.types import Key, Metrics, PyTree


def minimize(steps: int) -> InnerLoop:
    """Minimizes a smooth loss by L-BFGS with a line search; nothing is differentiated through it.

    Args:
      steps: at most; a loss that is at its minimum stays there.

    Returns:
      An inner loop that learns nothing; its metrics are those of :func:`unroll`.

    Raises:
      ValueError: ``steps`` is no count.
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
