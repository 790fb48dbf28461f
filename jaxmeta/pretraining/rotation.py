"""Rotation: predicting by how many quarter turns an image was rotated."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxmeta.losses import accuracy, cross_entropy
from jaxmeta.nn import chained, mlp
from jaxmeta.objectives import running_average
from jaxmeta.types import Array, Batch, Key, Model, Objective, PyTree, Report

TURNS = 4


def rotation(model: Model, head: Model | None = None, *, decay: float = 0.9) -> Objective:
    r"""The cross-entropy of predicting the rotation of images, each seen in all four quarter turns.

    .. math:: -\frac{1}{4n} \sum_{i=1}^n \sum_{r=0}^3
              \log \mathrm{softmax}\big(g(f(\mathrm{turn}^r x_i))\big)_r

    Alone it trains an embedding without labels; combined with a supervised loss, as by
    :func:`jaxmeta.objectives.added`, it keeps what labels do not ask for.

    Args:
      model: an embedding f, ``[n, height, width, channels]`` to ``[n, d]``.
      head: the network g from features to four logits; by default a linear layer. With hidden
        layers, as in ``projector(4, hidden=[512])``, the features need not be linear in the turns.
      decay: decay of the running averages of the statistics; see
        :func:`jaxmeta.objectives.running_average`.

    Returns:
      An objective over batches, or over anything that holds batches, such as episodes, all of whose
      images it then uses. Its parameters and its state are ``{"model", "rotation"}``, the latter
      those of the head. It reports ``accuracy``.

    Raises:
      ValueError: ``decay`` is outside [0, 1] or, when called, there is no batch or the images
        are not square.

    References:
      Gidaris, Singh and Komodakis, 2018, Unsupervised Representation Learning by Predicting Image
      Rotations; with labels, Gidaris et al., 2019, Boosting Few-Shot Visual Learning with
      Self-Supervision, section 3.2.2.

    >>> from jaxmeta.nn import conv4
    >>> objective = rotation(conv4())
    """
    network = chained(model=model, rotation=mlp(TURNS, hidden=()) if head is None else head)

    def init(key: Key, task: Any) -> tuple[PyTree, PyTree]:
        x = turned(task).x
        params, state = network.init(key, x)
        shape = jax.eval_shape(network.apply, params, state, x)[0].shape
        if shape != (len(x), TURNS):
            raise ValueError(
                f"The head's outputs have shape {shape} for {len(x)} images: give it {TURNS} "
                "outputs, one for each quarter turn."
            )
        return params, state

    def loss(params: PyTree, state: PyTree, task: Any, key: Key) -> tuple[Array, Report]:
        x, turns, mask = turned(task)
        logits, statistics = network.apply(params, state, x, mask, key)
        metrics = {"accuracy": accuracy(logits, turns, mask)}
        return cross_entropy(logits, turns, mask), Report(statistics, metrics)

    return Objective(init, loss, running_average(decay))


def turned(task: Any) -> Batch:
    """All images of a task in all four quarter turns, labeled by the turn: ``[4 n, ...]``.

    Raises:
      ValueError: there is no batch, or its images are not square.

    >>> x, y, _ = turned(Batch(jnp.arange(4.0).reshape(1, 2, 2, 1), jnp.zeros(1), jnp.ones(1)))
    >>> x[1, :, :, 0].tolist(), y.tolist()
    ([[1.0, 3.0], [0.0, 2.0]], [0, 1, 2, 3])
    """
    leaves = jax.tree.leaves(task, is_leaf=lambda node: isinstance(node, Batch))
    batches = [leaf for leaf in leaves if isinstance(leaf, Batch)]
    if not batches:
        raise ValueError(
            f"rotation is of batches of images and the task is a {type(task).__name__} without "
            "any: draw it by source.batches or source.episodes."
        )
    for batch in batches:
        shape = jnp.shape(batch.x) if not isinstance(batch.x, tuple | dict) else ()
        if len(shape) != 4 or shape[1] != shape[2]:
            raise ValueError(
                f"rotation got inputs of shape {jax.tree.map(jnp.shape, batch.x)}: give square "
                "images [n, size, size, channels]."
            )
    shapes = {jnp.shape(batch.x)[1:] for batch in batches}
    if len(shapes) > 1:
        raise ValueError(
            f"rotation got batches of images of shapes {sorted(shapes)}: give images of one size."
        )
    x = jnp.concatenate([batch.x for batch in batches])
    mask = jnp.concatenate([batch.mask for batch in batches])
    return Batch(
        jnp.concatenate([jnp.rot90(x, turns, axes=(1, 2)) for turns in range(TURNS)]),
        jnp.repeat(jnp.arange(TURNS), mask.size),
        jnp.tile(mask, TURNS),
    )
