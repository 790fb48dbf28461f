"""The optimizer that is a small network, applied to every parameter by itself."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxmeta.checks import check_count, check_positive
from jaxmeta.inner.leaves import computed_in
from jaxmeta.inner.loop import LearnedOptimizer
from jaxmeta.types import Array, Key, PyTree

TIMES = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
"""Steps around which a feature of the time changes."""


class Features(NamedTuple):
    """What a network reads of one parameter of an array, for :func:`per_parameter`.

    Attributes:
      size: their number.
      hyper: what is learned about them, such as decays.
      init: ``(leaf) -> memory`` before the first step.
      read: ``(hyper, memory, leaf, gradient) -> (features [..., size], memory)``.
    """

    size: int
    hyper: PyTree
    init: Callable[[Array], PyTree]
    read: Callable[[PyTree, PyTree, Array, Array], tuple[Array, PyTree]]


def per_parameter(
    features: Features, layers: Sequence[int] = (32, 32), *, scale: float = 1e-3
) -> LearnedOptimizer:
    r"""A network that reads features of one parameter and answers by how much to move it.

    .. math:: \theta \leftarrow \theta - s\, d\, e^{s m}, \qquad
              (d, m) = \mathrm{MLP}\big(\phi / \mathrm{rms}(\phi),\; \tanh(t / \tau - 1)\big)

    Each feature :math:`\phi` is divided by its root mean square over the array (with 1e-5 added
    inside the root), so that the scale of a loss hardly matters unless gradients are below 0.01;
    eleven features tell the time. All parameters share the
    weights, and what was learned on one network applies to any other.

    Args:
      features: what is read: :func:`momenta`, :func:`factored_moments` or your own.
      layers: sizes of the hidden layers.
      scale: s.

    Returns:
      A learned optimizer for :func:`unroll` and :func:`jaxmeta.objectives.trajectories`; of trained
      weights, ``optimizer(weights)`` is an optax transformation for any training loop.

    Raises:
      ValueError: a size or ``scale`` is not positive or, in an update, the parameters are missing.

    References:
      Metz et al., 2019, Understanding and Correcting Pathologies in the Training of Learned
      Optimizers, which is this with :func:`momenta`; Metz et al., 2022, Practical Tradeoffs between
      Memory, Compute, and Performance in Learned Optimizers, with :func:`factored_moments` and
      layers of ``(4, 4)``.

    >>> from jaxmeta.inner import momenta
    >>> metz = per_parameter(momenta())
    >>> params = {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}
    >>> optimizer = metz.optimizer(metz.hyper(jax.random.key(0), params))
    >>> updates, state = optimizer.update(params, optimizer.init(params), params)
    >>> bool(jnp.abs(updates["bias"]).max() < 0.01)
    True
    """
    for width in layers:
        check_count("A layer's size", width, least=1)
    check_positive("scale", scale)
    sizes = [features.size + len(TIMES), *layers, 2]

    def hyper(key: Key, fast: PyTree) -> PyTree:
        dtype = computed_in(fast)
        initial = jax.nn.initializers.lecun_normal()
        keys = jax.random.split(key, len(sizes) - 1)
        network = [
            {"kernel": initial(k, (read, width), dtype), "bias": jnp.zeros(width, dtype)}
            for k, read, width in zip(keys, sizes[:-1], sizes[1:], strict=True)
        ]
        return {"network": network, "features": jax.tree.map(jnp.asarray, features.hyper)}

    def optimizer(weights: PyTree) -> optax.GradientTransformation:
        def init(params: PyTree) -> tuple[Array, PyTree]:
            return jnp.zeros((), jnp.int32), [
                features.init(leaf) for leaf in jax.tree.leaves(params)
            ]

        def move(leaf: Array, gradient: Array, memory: PyTree, time: Array) -> tuple[Array, PyTree]:
            read, memory = features.read(weights["features"], memory, leaf, gradient)
            axes = tuple(range(leaf.ndim))
            read = read * jax.lax.rsqrt(1e-5 + jnp.mean(read**2, axis=axes, keepdims=True))
            times = jnp.broadcast_to(time.astype(read.dtype), (*leaf.shape, len(TIMES)))
            x = jnp.concatenate([read, times], axis=-1)
            *hidden, last = weights["network"]
            for layer in hidden:
                x = jax.nn.relu(jnp.einsum("...i,ij->...j", x, layer["kernel"]) + _as(x, layer))
            x = jnp.einsum("...i,ij->...j", x, last["kernel"]) + _as(x, last)
            return (-scale * x[..., 0] * jnp.exp(scale * x[..., 1])).astype(leaf.dtype), memory

        def update(
            gradient: PyTree, state: tuple[Array, PyTree], params: PyTree = None
        ) -> tuple[PyTree, Any]:
            if params is None:
                raise ValueError(
                    "The network reads the parameters: call update(gradient, state, params)."
                )
            step, memories = state
            time = jnp.tanh(step.astype(jnp.float32) / jnp.array(TIMES, jnp.float32) - 1)
            leaves, structure = jax.tree.flatten(params)
            moved = [
                move(leaf, g, memory, time)
                for leaf, g, memory in zip(leaves, jax.tree.leaves(gradient), memories, strict=True)
            ]
            updates = jax.tree.unflatten(structure, [each for each, _ in moved])
            return updates, (step + 1, [memory for _, memory in moved])

        return optax.GradientTransformation(init, update)

    return LearnedOptimizer(hyper, optimizer)


def _as(x: Array, layer: PyTree) -> Array:
    """The bias of a layer, with as many axes as its inputs."""
    bias: Array = layer["bias"]
    return bias.reshape((1,) * (x.ndim - 1) + bias.shape)
