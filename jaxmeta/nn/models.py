"""The small networks of the few-shot papers, as pairs of pure functions."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count, check_sizes
from jaxmeta.nn.adapters import from_functions
from jaxmeta.nn.convolution import conv2d
from jaxmeta.nn.layers import (
    Statistics,
    dense,
    init_convolution,
    init_dense,
    max_pool,
    moments,
    normalize,
)
from jaxmeta.types import Array, Key, Model, PyTree


def mlp(outputs: int, hidden: Sequence[int] = (40, 40)) -> Model:
    """A multi-layer perceptron with ReLU, without normalization; no state.

    The default widths are those of the sinusoid experiment of Finn et al., 2017, section 5.1.

    Args:
      outputs: size of the last, linear layer.
      hidden: sizes of the hidden layers.

    Returns:
      A model from ``[n, ...]`` (flattened) to ``[n, outputs]``; its parameters are
      ``{"layer0": {"kernel", "bias"}, ..., "head": {"kernel", "bias"}}``.

    Raises:
      ValueError: a layer's size is not a positive integer.

    >>> model = mlp(3, hidden=(8,))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((4, 6)))
    >>> model.apply(params, state, jnp.ones((4, 6)))[0].shape
    (4, 3)
    """
    check_sizes(hidden)
    check_count("A layer's size", outputs, least=1)
    names = [f"layer{i}" for i in range(len(hidden))] + ["head"]

    def init(key: Key, x: Array) -> tuple[PyTree, PyTree]:
        sizes = [x[0].size, *hidden, outputs]
        keys = jax.random.split(key, len(names))
        params = {
            name: init_dense(k, a, b)
            for name, k, a, b in zip(names, keys, sizes[:-1], sizes[1:], strict=True)
        }
        return params, {}

    def apply(
        params: PyTree,
        state: PyTree,
        x: Array,
        mask: Array | None = None,
        key: Key | None = None,
        batch_statistics: bool = True,
    ) -> tuple[Array, PyTree]:
        x = x.reshape(x.shape[0], -1)
        for name in names[:-1]:
            x = jax.nn.relu(dense(params[name], x))
        return dense(params["head"], x), state

    return Model(init, apply)


def linear(outputs: int, spread: float = 0.01) -> Model:
    r"""Linear functions :math:`x \mapsto \theta^\top x` without a bias; no state.

    Args:
      outputs: size of the outputs.
      spread: standard deviation of the initial weights, which are normal.

    Returns:
      A model from ``[n, ...]`` (flattened) to ``[n, outputs]``; its parameters are ``{"kernel"}``.

    Raises:
      ValueError: ``outputs`` is not a positive integer.

    >>> model = linear(1)
    >>> params, state = model.init(jax.random.key(0), jnp.ones((4, 6)))
    >>> model.apply(params, state, jnp.ones((4, 6)))[0].shape
    (4, 1)
    """
    check_count("outputs", outputs, least=1)

    def init(key: Key, x: Array) -> PyTree:
        return {"kernel": spread * jax.random.normal(key, (x[0].size, outputs), jnp.float32)}

    return from_functions(init, lambda params, x: x.reshape(len(x), -1) @ params["kernel"])


def conv4(
    outputs: int | None = None,
    filters: int | Sequence[int] = 64,
    downsample: str = "pool",
    halvings: int = 4,
    flatten: bool = True,
) -> Model:
    """Four blocks of 3x3 convolution, batch normalization and ReLU, the first of which downsample.

    Args:
      outputs: size of a linear head, whose parameters are named ``"head"``; with ``None`` there is
        no head, and the model is an embedding.
      filters: channels of every convolution, or of each of the four.
      downsample: ``"pool"`` halves by 2x2 max-pooling and flattens what is left (Vinyals et al.,
        2016, section 4.1); ``"stride"`` halves by stride-2 convolutions and averages over positions
        (Finn et al., 2017, section 5.2, for Omniglot).
      halvings: how many of the blocks halve the image.
      flatten: turn the maps of an embedding into features; otherwise the outputs are the maps, as
        relation networks need.

    Returns:
      A model from images ``[n, height, width, channels]`` to ``[n, outputs]``, ``[n, features]`` or
      maps ``[n, rows, columns, filters]``; its parameters are
      ``{"block0": {"kernel", "scale", "offset"}, ..., "head": {...}}`` and its state
      ``{"block0": Statistics, ...}``. The convolutions have no bias: the normalization would
      subtract it again.

    Raises:
      ValueError: ``downsample`` is neither of the two, there are not four numbers of filters, a
        number is not a positive integer, a head has no features, or (from ``init``) nothing is left
        of the images after the halvings.

    >>> model, images = conv4(filters=8), jnp.ones((4, 28, 28, 1))
    >>> params, state = jax.eval_shape(model.init, jax.random.key(0), images)
    >>> jax.eval_shape(model.apply, params, state, images)[0].shape
    (4, 8)
    """
    if downsample not in ("pool", "stride"):
        raise ValueError(f"downsample is {downsample!r}: choose 'pool' or 'stride'.")
    check_count("halvings", halvings)
    if halvings > 4:
        raise ValueError(f"halvings is {halvings}: give 0 to 4, as there are four blocks.")
    widths = four_widths(filters)
    check_head(outputs, flatten)
    halves = [downsample] * halvings + [None] * (4 - halvings)

    def init(key: Key, x: Array) -> tuple[PyTree, PyTree]:
        *keys, head_key = jax.random.split(key, len(widths) + 1)
        params, state = _init_blocks(keys, x.shape[-1], widths)
        maps = jax.eval_shape(lambda: _blocks(params, state, x, None, True, halves)[0])
        if maps.size == 0 and x.size > 0:
            raise ValueError(
                f"Images of {x.shape[1]} x {x.shape[2]} pixels are too small to be halved "
                f"{halvings} times: give {2**halvings} pixels or more, or downsample='stride'."
            )
        if outputs is not None:
            features = jax.eval_shape(lambda: embed(params, state, x, None, True)[0]).shape[-1]
            params["head"] = init_dense(head_key, features, outputs)
        return params, state

    def embed(
        params: PyTree, state: PyTree, x: Array, mask: Array | None, batch_statistics: bool
    ) -> tuple[Array, PyTree]:
        maps, used = _blocks(params, state, x, mask, batch_statistics, halves)
        if not flatten:
            return maps, used
        if downsample == "stride":
            return jnp.mean(maps, axis=(1, 2)), used
        return maps.reshape(maps.shape[0], -1), used

    def apply(
        params: PyTree,
        state: PyTree,
        x: Array,
        mask: Array | None = None,
        key: Key | None = None,
        batch_statistics: bool = True,
    ) -> tuple[Array, PyTree]:
        features, used = embed(params, state, x, mask, batch_statistics)
        return (features if outputs is None else dense(params["head"], features)), used

    return Model(init, apply)


def conv_block(filters: int = 64, downsample: str | None = "pool") -> Model:
    """One block of :func:`conv4` as a model of its own, to build networks that branch.

    Four of them in :func:`jaxmeta.nn.chained`, named ``block0`` to ``block3``, have the parameters
    of ``conv4(flatten=False)``.

    Args:
      filters: channels of the convolution.
      downsample: ``"pool"``, ``"stride"`` or ``None``, as in :func:`conv4`.

    Returns:
      A model from maps ``[n, height, width, channels]`` to maps ``[n, rows, columns, filters]``.

    Raises:
      ValueError: ``downsample`` is none of these, or ``filters`` is not a positive integer.

    >>> block, images = conv_block(8), jnp.ones((4, 28, 28, 1))
    >>> params, state = block.init(jax.random.key(0), images)
    >>> block.apply(params, state, images)[0].shape
    (4, 14, 14, 8)
    """
    if downsample not in ("pool", "stride", None):
        raise ValueError(f"downsample is {downsample!r}: choose 'pool', 'stride' or None.")
    check_count("filters", filters, least=1)

    def init(key: Key, x: Array) -> tuple[PyTree, PyTree]:
        return init_convolution(key, 3, x.shape[-1], filters)

    def apply(
        params: PyTree,
        state: PyTree,
        x: Array,
        mask: Array | None = None,
        key: Key | None = None,
        batch_statistics: bool = True,
    ) -> tuple[Array, PyTree]:
        both = {"block0": params}, {"block0": state}
        maps, used = _blocks(*both, x, mask, batch_statistics, [downsample])
        return maps, used["block0"]

    return Model(init, apply)


def relation_module(filters: int = 64, hidden: int = 8) -> Model:
    """Scores how similar two maps are, by two convolutional blocks and two linear layers.

    Args:
      filters: channels of each convolution.
      hidden: size of the first linear layer.

    Returns:
      A model from pairs of maps, concatenated to ``[n, rows, columns, 2 * channels]``, to one
      number each, ``[n]``.

    References:
      Sung et al., 2018, Learning to Compare: Relation Network for Few-shot Learning, section 3.4.

    Raises:
      ValueError: a layer's size is not a positive integer, or (from ``init``) the maps are too
        small.

    >>> module, pairs = relation_module(filters=8), jnp.ones((4, 7, 7, 16))
    >>> params, state = jax.eval_shape(module.init, jax.random.key(0), pairs)
    >>> jax.eval_shape(module.apply, params, state, pairs)[0].shape
    (4,)
    """
    check_count("filters", filters, least=1)
    check_count("hidden", hidden, least=1)

    def init(key: Key, x: Array) -> tuple[PyTree, PyTree]:
        *keys, hidden_key, head_key = jax.random.split(key, 4)
        params, state = _init_blocks(keys, x.shape[-1], [filters] * 2)
        maps = jax.eval_shape(lambda: _blocks(params, state, x, None, True, ["pool"] * 2)[0])
        features = math.prod(maps.shape[1:])
        if features == 0:
            raise ValueError(
                f"Maps of {x.shape[1]} x {x.shape[2]} are too small to be halved twice: give an "
                "embedding of fewer halvings."
            )
        params["hidden"] = init_dense(hidden_key, features, hidden)
        params["head"] = init_dense(head_key, hidden, 1)
        return params, state

    def apply(
        params: PyTree,
        state: PyTree,
        x: Array,
        mask: Array | None = None,
        key: Key | None = None,
        batch_statistics: bool = True,
    ) -> tuple[Array, PyTree]:
        maps, used = _blocks(params, state, x, mask, batch_statistics, ["pool"] * 2)
        features = jax.nn.relu(dense(params["hidden"], maps.reshape(maps.shape[0], -1)))
        return dense(params["head"], features)[:, 0], used

    return Model(init, apply)


def four_widths(filters: int | Sequence[int]) -> list[int]:
    """The channels of a network's four parts, from one number or four; raises ``ValueError``."""
    widths = list(filters) if isinstance(filters, Sequence) else [filters] * 4
    if len(widths) != 4:
        raise ValueError(f"filters is {filters!r}: give one number, or four.")
    for width in widths:
        check_count("filters", width, least=1)
    return widths


def check_head(outputs: int | None, flatten: bool) -> None:
    """Raises ``ValueError`` if a head's size is not a positive integer, or it has no features."""
    if outputs is not None:
        check_count("outputs", outputs, least=1)
        if not flatten:
            raise ValueError(f"outputs is {outputs} but flatten is False: a head takes features.")


def _init_blocks(
    keys: Sequence[Key], channels: int, filters: Sequence[int]
) -> tuple[PyTree, PyTree]:
    """Parameters and statistics of convolutional blocks, ``{"block0": ...}``."""
    params, state = {}, {}
    for i, (key, width) in enumerate(zip(keys, filters, strict=True)):
        params[f"block{i}"], state[f"block{i}"] = init_convolution(key, 3, channels, width)
        channels = width
    return params, state


def _blocks(
    params: PyTree,
    state: PyTree,
    x: Array,
    mask: Array | None,
    batch_statistics: bool,
    halves: Sequence[str | None],
) -> tuple[Array, PyTree]:
    """Blocks of convolution, normalization and ReLU; ``halves`` says how each of them halves."""
    used = {}
    for i, halved in enumerate(halves):
        name, block = f"block{i}", params[f"block{i}"]
        # With the sign of its scale moved into the kernel, normalization is monotone: the maximum
        # of normalized values is the normalized maximum, so only a quarter has to be normalized.
        sign = jnp.where(block["scale"] < 0, -1.0, 1.0).astype(block["scale"].dtype)
        kernel = block["kernel"] * sign[None, None, None]
        x = conv2d(x, kernel, stride=2 if halved == "stride" else 1)
        turned = moments(x, mask) if batch_statistics else _turn(state[name], sign)
        if halved == "pool":
            x = max_pool(x)
        x = jax.nn.relu(normalize(x, turned, block["scale"] * sign, block["offset"]))
        used[name] = _turn(turned, sign)
    return x, used


def _turn(statistics: Statistics, sign: Array) -> Statistics:
    """The statistics of channels multiplied by these signs."""
    mean = statistics.mean
    return Statistics(mean * sign.astype(mean.dtype), statistics.variance)
