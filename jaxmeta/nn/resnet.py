"""The residual networks of few-shot and transfer papers, as pairs of pure functions."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.nn.convolution import conv2d
from jaxmeta.nn.layers import (
    Statistics,
    batch_norm,
    dense,
    init_convolution,
    init_dense,
    max_pool,
)
from jaxmeta.nn.models import check_head, four_widths
from jaxmeta.types import Array, Key, Model, PyTree


def resnet12(
    outputs: int | None = None,
    filters: int | Sequence[int] = (64, 160, 320, 640),
    flatten: bool = True,
) -> Model:
    """Four residual blocks of three 3x3 convolutions, each halving the image by 2x2 max-pooling.

    Each convolution has batch normalization; the activation is a leaky ReLU of slope 0.1, and every
    shortcut is a normalized 1x1 convolution. There is no DropBlock.

    Args:
      outputs: size of a linear head, whose parameters are named ``"head"``; with ``None`` there is
        no head, and the model is an embedding.
      filters: channels of every block, or of each of the four.
      flatten: average the maps over positions into features; otherwise the outputs are the maps.

    Returns:
      A model from images ``[n, height, width, channels]`` to ``[n, outputs]``, ``[n, features]`` or
      maps ``[n, rows, columns, filters]``; its parameters are ``{"block0": {"conv0": {"kernel",
      "scale", "offset"}, "conv1": ..., "conv2": ..., "shortcut": ...}, ..., "head": {...}}`` and
      its state ``{"block0": {"conv0": Statistics, ...}, ...}``.

    Raises:
      ValueError: there are not four numbers of filters, a number is not a positive integer, a head
        has no features, or (from ``init``) nothing is left of the images after four halvings.

    References:
      Oreshkin et al., 2018, TADAM: Task Dependent Adaptive Metric for Improved Few-shot Learning;
      Lee et al., 2019, Meta-Learning with Differentiable Convex Optimization, section 4.1, for the
      widths; Tian et al., 2020, Rethinking Few-Shot Image Classification, section 4.1.

    >>> model, images = resnet12(filters=8), jnp.ones((4, 32, 32, 3))
    >>> params, state = jax.eval_shape(model.init, jax.random.key(0), images)
    >>> jax.eval_shape(model.apply, params, state, images)[0].shape
    (4, 8)
    """
    blocks = [_Block(3, width, stride=1, projects=True) for width in four_widths(filters)]

    def leaky_relu(x: Array) -> Array:
        return jax.nn.leaky_relu(x, 0.1)

    return _residual_network(None, blocks, True, leaky_relu, outputs, flatten)


def resnet18(
    outputs: int | None = None,
    filters: int | Sequence[int] = (64, 128, 256, 512),
    flatten: bool = True,
) -> Model:
    """A 3x3 convolution and eight residual blocks of two; the third, fifth and seventh downsample.

    It is the ImageNet network with the first layer of the CIFAR one: small images are neither
    strided nor pooled before the blocks.

    Args:
      outputs: as for :func:`resnet12`.
      filters: channels of every block, or of each of the four pairs of blocks; the first
        convolution has as many as the first pair.
      flatten: as for :func:`resnet12`.

    Returns:
      A model as for :func:`resnet12`, with parameters ``"stem"``, ``"block0"``, ..., ``"head"`` and
      a matching state. A block has ``"conv0"`` and ``"conv1"`` and, if it halves the image or
      changes the number of channels, a ``"shortcut"``; other shortcuts are the identity.

    Raises:
      ValueError: there are not four numbers of filters, a number is not a positive integer, or a
        head has no features.

    References:
      He et al., 2016, Deep Residual Learning for Image Recognition, section 3.3; Chen et al., 2020,
      A Simple Framework for Contrastive Learning of Visual Representations, appendix B.9, for the
      first layer.

    >>> model, images = resnet18(10, filters=8), jnp.ones((4, 8, 8, 3))
    >>> params, state = jax.eval_shape(model.init, jax.random.key(0), images)
    >>> jax.eval_shape(model.apply, params, state, images)[0].shape
    (4, 10)
    """
    widths = four_widths(filters)
    blocks, channels = [], widths[0]
    for width, stride in zip(widths, (1, 2, 2, 2), strict=True):
        blocks.append(_Block(2, width, stride, projects=stride > 1 or width != channels))
        blocks.append(_Block(2, width, stride=1, projects=False))
        channels = width
    return _residual_network(widths[0], blocks, False, jax.nn.relu, outputs, flatten)


class _Block(NamedTuple):
    """The number of convolutions and their channels; whether the shortcut is one as well."""

    convolutions: int
    filters: int
    stride: int
    projects: bool


def _residual_network(
    stem: int | None,
    blocks: Sequence[_Block],
    pools: bool,
    activate: Callable[[Array], Array],
    outputs: int | None,
    flatten: bool,
) -> Model:
    """A first convolution of ``stem`` channels, if that is given, then blocks that may pool."""
    check_head(outputs, flatten)

    def init(key: Key, x: Array) -> tuple[PyTree, PyTree]:
        if pools and min(x.shape[1:3]) < 2 ** len(blocks):
            raise ValueError(
                f"Images of {x.shape[1]} x {x.shape[2]} pixels are too small to be halved "
                f"{len(blocks)} times: give {2 ** len(blocks)} pixels or more."
            )
        stem_key, head_key, *keys = jax.random.split(key, len(blocks) + 2)
        params: dict[str, PyTree] = {}
        state: dict[str, PyTree] = {}
        channels = x.shape[-1]
        if stem is not None:
            params["stem"], state["stem"] = init_convolution(stem_key, 3, channels, stem)
            channels = stem
        for i, (key, block) in enumerate(zip(keys, blocks, strict=True)):
            params[f"block{i}"], state[f"block{i}"] = _init_block(key, block, channels)
            channels = block.filters
        if outputs is not None:
            params["head"] = init_dense(head_key, channels, outputs)
        return params, state

    def apply(
        params: PyTree,
        state: PyTree,
        x: Array,
        mask: Array | None = None,
        key: Key | None = None,
        batch_statistics: bool = True,
    ) -> tuple[Array, PyTree]:
        used = {}
        if stem is not None:
            x, used["stem"] = _convolution(params["stem"], state["stem"], x, mask, batch_statistics)
            x = activate(x)
        for i, block in enumerate(blocks):
            own = params[f"block{i}"], state[f"block{i}"]
            x, used[f"block{i}"] = _residual(*own, x, mask, batch_statistics, block, activate)
            # The activation is monotone, so it may follow pooling, on a quarter of the values.
            x = activate(max_pool(x) if pools else x)
        if not flatten:
            return x, used
        features = jnp.mean(x, axis=(1, 2))
        return (features if outputs is None else dense(params["head"], features)), used

    return Model(init, apply)


def _init_block(key: Key, block: _Block, channels: int) -> tuple[PyTree, PyTree]:
    params, state = {}, {}
    *keys, shortcut_key = jax.random.split(key, block.convolutions + 1)
    inputs = channels
    for i, key in enumerate(keys):
        params[f"conv{i}"], state[f"conv{i}"] = init_convolution(key, 3, inputs, block.filters)
        inputs = block.filters
    if block.projects:
        params["shortcut"], state["shortcut"] = init_convolution(
            shortcut_key, 1, channels, block.filters
        )
    return params, state


def _residual(
    params: PyTree,
    state: PyTree,
    x: Array,
    mask: Array | None,
    batch_statistics: bool,
    block: _Block,
    activate: Callable[[Array], Array],
) -> tuple[Array, PyTree]:
    """The sum of the shortcut and the convolutions, before activation."""
    used = {}

    def convolution(name: str, x: Array, stride: int) -> Array:
        x, used[name] = _convolution(params[name], state[name], x, mask, batch_statistics, stride)
        return x

    y = convolution("conv0", x, block.stride)
    for i in range(1, block.convolutions):
        y = convolution(f"conv{i}", activate(y), 1)
    return y + (convolution("shortcut", x, block.stride) if block.projects else x), used


def _convolution(
    params: PyTree,
    statistics: Statistics,
    x: Array,
    mask: Array | None,
    batch_statistics: bool,
    stride: int = 1,
) -> tuple[Array, Statistics]:
    """Convolution and normalization, and the statistics used."""
    # Windows are centered at the same pixels as those of a 1x1 shortcut, unlike with "SAME".
    zeros = params["kernel"].shape[0] // 2
    x = conv2d(x, params["kernel"], stride, [(zeros, zeros)] * 2)
    return batch_norm(x, params["scale"], params["offset"], statistics, mask, batch_statistics)
