"""Two inner loops, one after the other, of which the first adapts fewer leaves."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxmeta.inner.leaves import merge, partition
from jaxmeta.inner.loop import InnerLoop, InnerLoss
from jaxmeta.types import Array, Key, Metrics, PyTree


def then(first: InnerLoop, second: InnerLoop, chosen: Callable[[str], bool]) -> InnerLoop:
    r"""Adapts some leaves by one inner loop, and then all of them by another.

    .. math:: \phi' = \mathrm{inner}_1(\phi \mapsto L(\phi, \psi)), \qquad
              (\phi'', \psi'') = \mathrm{inner}_2(L;\, \phi', \psi)

    As when a new head is trained on fixed features before the whole network is fine-tuned: a head
    that knows nothing would distort the features first.

    Args:
      first: the loop that adapts some of the fast leaves.
      second: the loop that then adapts all of them.
      chosen: whether ``first`` adapts a leaf, by its name, as in ``"head/kernel"``.

    Returns:
      An inner loop whose ``hyper`` is a tuple of those of both, ``()`` if neither learns anything.
      Its metrics are those that both loops report for each step. It has a ``path`` if both have
      one.

    Raises:
      ValueError: when run, ``first`` would adapt no leaf.

    References:
      Kumar et al., 2022, Fine-Tuning can Distort Pretrained Features and Underperform
      Out-of-Distribution (linear probing, then fine-tuning).

    >>> import optax
    >>> from jaxmeta.inner import unroll
    >>> loop = then(unroll(optax.sgd(1.0), 1), unroll(optax.sgd(0.5), 1), lambda name: name == "a")
    >>> loss = lambda leaves, key: (leaves["a"] ** 2 + leaves["b"] ** 2) / 2
    >>> leaves = {"a": jnp.float32(4), "b": jnp.float32(4)}
    >>> loop.run(loss, leaves, loop.init(jax.random.key(0), leaves), jax.random.key(0))[0]
    {'a': Array(0., dtype=float32...), 'b': Array(2., dtype=float32...)}
    """

    def init(key: Key, fast: PyTree) -> PyTree:
        keys = jax.random.split(key)
        both = first.init(keys[0], partition(fast, chosen)[0]), second.init(keys[1], fast)
        return both if jax.tree.leaves(both) else ()

    def some(loss: InnerLoss, others: PyTree) -> InnerLoss:
        def of_some(leaves: PyTree, key: Key) -> Array:
            return loss(merge(leaves, others), key)

        return of_some

    def run(loss: InnerLoss, fast: PyTree, hyper: PyTree, key: Key) -> tuple[PyTree, Metrics]:
        keys = jax.random.split(key)
        own, others = partition(fast, chosen)
        of_first, of_second = hyper or ((), ())
        own, before = first.run(some(loss, others), own, of_first, keys[0])
        fast, after = second.run(loss, merge(own, others), of_second, keys[1])
        return fast, _joined(before, after)

    first_path, second_path = first.path, second.path
    if first_path is None or second_path is None:
        return InnerLoop(init, run)

    def path(loss: InnerLoss, fast: PyTree, hyper: PyTree, key: Key) -> tuple[PyTree, Metrics]:
        keys = jax.random.split(key)
        own, others = partition(fast, chosen)
        of_first, of_second = hyper or ((), ())
        rows, before = first_path(some(loss, others), own, of_first, keys[0])
        count = jax.tree.leaves(rows)[0].shape[0]
        begun = merge(rows, jax.tree.map(lambda leaf: jnp.stack([leaf] * count), others))
        last = jax.tree.map(lambda leaf: leaf[-1], begun)
        more, after = second_path(loss, last, of_second, keys[1])
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b[1:]]), begun, more)
        return both, _joined(before, after)

    return InnerLoop(init, run, path)


def _joined(before: Metrics, after: Metrics) -> Metrics:
    """The metrics that both loops report for each step, one after the other."""
    return {
        name: jnp.concatenate([before[name], after[name]])
        for name in before
        if name in after and jnp.ndim(before[name]) == jnp.ndim(after[name]) == 1
    }
