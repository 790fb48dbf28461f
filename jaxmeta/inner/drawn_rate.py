"""An inner loop whose learning rate is drawn anew for each task."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxmeta.checks import check_positive
from jaxmeta.inner.loop import InnerLoop, InnerLoss, Run
from jaxmeta.inner.unroll import unroll
from jaxmeta.types import Array, Key, Metrics, PyTree


def drawn_rate(
    optimizer: Callable[[Array], optax.GradientTransformation],
    steps: int,
    least: float,
    most: float,
    **options: Any,
) -> InnerLoop:
    r"""Like :func:`unroll`, at a rate :math:`\log r \sim U(\log r_0, \log r_1)` of each task's own.

    For what must hold at any rate, such as the defense against an adversary who chooses it.

    Args:
      optimizer: from a rate to a transformation, such as ``optax.sgd``.
      steps: number of steps.
      least: the smallest rate.
      most: the largest rate.
      **options: those of :func:`unroll`, such as ``first_order``.

    Returns:
      An inner loop with a path, in which nothing is learned.

    Raises:
      ValueError: the optimizer has a rate already, a rate is not positive, the smallest is above
        the largest, or as for :func:`unroll`.

    >>> loop = drawn_rate(optax.sgd, steps=1, least=0.5, most=0.5)
    >>> loss = lambda theta, key: jnp.sum(theta**2) / 2
    >>> loop.run(loss, jnp.array([4.0]), (), jax.random.key(0))[0].round(4).tolist()
    [2.0]
    """
    if isinstance(optimizer, optax.GradientTransformation):
        raise ValueError(
            "optimizer is a transformation: give a function of a rate, like optax.sgd."
        )
    check_positive("least", least)
    check_positive("most", most)
    if least > most:
        raise ValueError(f"least is {least} and most {most}: give the smaller rate first.")
    loop = unroll(optimizer, steps, hyper=lambda key, fast: jnp.float32(least), **options)

    def at_drawn_rate(run: Run) -> Run:
        def drawn(loss: InnerLoss, fast: PyTree, hyper: PyTree, key: Key) -> tuple[PyTree, Metrics]:
            rate_key, key = jax.random.split(key)
            exponent = jax.random.uniform(rate_key, (), jnp.float32, jnp.log(least), jnp.log(most))
            return run(loss, fast, jnp.exp(exponent), key)

        return drawn

    assert loop.path is not None
    return InnerLoop(lambda key, fast: (), at_drawn_rate(loop.run), at_drawn_rate(loop.path))
