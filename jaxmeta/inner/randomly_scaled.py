"""An inner loop on coordinates that are scaled at random, for optimizers that are to be learned."""

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_positive
from jaxmeta.inner.loop import InnerLoop, InnerLoss, Run
from jaxmeta.types import Array, Key, Metrics, PyTree


def randomly_scaled(inner: InnerLoop, spread: float = 3.0) -> InnerLoop:
    r"""Adapts coordinates that each have a unit of their own in each task.

    .. math:: \theta' = c \odot \mathrm{inner}\big(\phi \mapsto L(c \odot \phi),\;
              \theta / c\big), \qquad \log c_j \sim U(-s, s)

    A learned optimizer then cannot know how large a parameter or its gradient should be, and must
    look at how they relate. For training it; what is learned is used without. Gradient descent of
    rate r becomes one of rates :math:`r c_j^2`.

    Args:
      inner: the inner loop.
      spread: s; with 3, the largest unit is four hundred times the smallest.

    Returns:
      An inner loop with the ``hyper`` of ``inner``, and a ``path`` if that has one. Its metrics are
      those of the scaled problem.

    Raises:
      ValueError: ``spread`` is not positive.

    References:
      Lv, Jiang and Li, 2017, Learning Gradient Descent: Better Generalization and Longer Horizons
      (random scaling).

    >>> from jaxmeta.inner import coordinatewise_lstm, unroll
    >>> loop = randomly_scaled(unroll(coordinatewise_lstm(), steps=20, first_order=True))
    """
    check_positive("spread", spread)

    def scaled(run: Run) -> Run:
        def on_scaled(
            loss: InnerLoss, fast: PyTree, hyper: PyTree, key: Key
        ) -> tuple[PyTree, Metrics]:
            scale_key, key = jax.random.split(key)
            leaves, structure = jax.tree.flatten(fast)
            keys = jax.random.split(scale_key, max(len(leaves), 1))
            units = jax.tree.unflatten(
                structure,
                [
                    jnp.exp(jax.random.uniform(own, leaf.shape, leaf.dtype, -spread, spread))
                    for leaf, own in zip(leaves, keys, strict=False)
                ],
            )

            def scaled_loss(scaled: PyTree, key: Key) -> Array:
                return loss(jax.tree.map(jnp.multiply, units, scaled), key)

            start = jax.tree.map(jnp.divide, fast, units)
            found, metrics = run(scaled_loss, start, hyper, key)
            # A path has an axis of steps before those of the leaves.
            back = jax.tree.map(
                lambda leaf, unit: leaf * jnp.broadcast_to(unit, leaf.shape), found, units
            )
            return back, metrics

        return on_scaled

    return InnerLoop(inner.init, scaled(inner.run), inner.path and scaled(inner.path))
