"""Transformers: blocks as pure functions of tokens, and a small model for images.

A token is a vector, and tokens are ``[n, tokens, width]``. The blocks do not depend on where
tokens come from, so they work for images, parts of images, and text.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.checks import check_count
from jaxmeta.nn.layers import dense, init_dense, layer_norm, wide_type
from jaxmeta.nn.models import check_head
from jaxmeta.types import Array, Key, Model, PyTree

_WAVES = "as positions are sines and cosines of two directions"


class Patches(NamedTuple):
    """Images of which a transformer sees only some patches.

    Attributes:
      images: ``[n, height, width, channels]``.
      places: int32 ``[n, v]``, the patches that are seen, row by row.
    """

    images: Array
    places: Array


def vit(
    outputs: int | None = None,
    patch: int = 4,
    width: int = 192,
    depth: int = 6,
    heads: int = 3,
    expansion: int = 4,
    flatten: bool = True,
) -> Model:
    """A Vision Transformer without a class token: features are the mean of the last tokens.

    The defaults are for images of 32 x 32 pixels. Positions are fixed, those of
    :func:`position_embeddings`. The model is :func:`embed_patches` followed by
    :func:`encode_tokens`. Given :class:`Patches` instead of images, it sees only these, and its
    outputs are their last tokens ``[n, v, width]``, without a head.

    Args:
      outputs: size of a linear head, whose parameters are named ``"head"``; with ``None`` there is
        no head, and the model is an embedding.
      patch: height and width of a patch in pixels.
      width: size of a token.
      depth: number of blocks.
      heads: number of heads of each attention.
      expansion: width of the hidden layer of each MLP, as a multiple of a token's.
      flatten: average over tokens; otherwise the outputs are the tokens, as maps.

    Returns:
      A model from images ``[n, height, width, channels]`` to ``[n, outputs]``, ``[n, features]`` or
      maps ``[n, rows, columns, features]``; its parameters are ``{"patches": {"kernel", "bias"},
      "encoder": {"block0": {...}, ..., "norm": {...}}, "head": {...}}``, the encoder's as in
      :func:`init_encoder`. It has no state.

    Raises:
      ValueError: a number is not a positive integer, the width does not fit heads and positions, a
        head has no features, or patches do not fill the images.

    References:
      Dosovitskiy et al., 2021, An Image is Worth 16x16 Words, section 3.1; Beyer et al., 2022,
      Better plain ViT baselines for ImageNet-1k, for positions and mean.

    >>> model, images = vit(10, width=8, depth=1, heads=2), jnp.ones((4, 32, 32, 3))
    >>> params, state = jax.eval_shape(model.init, jax.random.key(0), images)
    >>> jax.eval_shape(model.apply, params, state, images)[0].shape
    (4, 10)
    """
    counts = {"patch": patch, "width": width, "depth": depth, "heads": heads}
    for name, count in (counts | {"expansion": expansion}).items():
        check_count(name, count, least=1)
    check_head(outputs, flatten)
    _check_width(width, heads)
    _check_width(width, 4, _WAVES)

    def init(key: Key, x: Array) -> tuple[PyTree, PyTree]:
        patches_key, encoder_key, head_key = jax.random.split(key, 3)
        inputs = jax.eval_shape(lambda: patchify(x, patch)).shape[-1]
        params = {
            "patches": init_dense(patches_key, inputs, width),
            "encoder": init_encoder(encoder_key, width, depth, heads, expansion),
        }
        if outputs is not None:
            params["head"] = init_dense(head_key, width, outputs)
        return params, {}

    def apply(
        params: PyTree,
        state: PyTree,
        x: Array | Patches,
        mask: Array | None = None,
        key: Key | None = None,
        batch_statistics: bool = True,
    ) -> tuple[Array, PyTree]:
        if isinstance(x, Patches):
            tokens = embed_patches(params["patches"], x.images, patch)
            tokens = jnp.take_along_axis(tokens, x.places[..., None], axis=1)
            return encode_tokens(params["encoder"], tokens), state
        tokens = embed_patches(params["patches"], x, patch)
        tokens = encode_tokens(params["encoder"], tokens)
        if not flatten:
            return tokens.reshape(x.shape[0], x.shape[1] // patch, x.shape[2] // patch, -1), state
        features = jnp.mean(tokens, axis=1)
        return (features if outputs is None else dense(params["head"], features)), state

    return Model(init, apply)


def patchify(images: Array, patch: int) -> Array:
    """Cuts images into squares, row by row.

    Args:
      images: ``[n, height, width, channels]``.
      patch: height and width of a square in pixels.

    Returns:
      ``[n, squares, patch * patch * channels]``.

    Raises:
      ValueError: squares do not fill the images.

    >>> patchify(jnp.arange(16).reshape(1, 4, 4, 1), 2)[0, 1].tolist()
    [2, 3, 6, 7]
    """
    n, height, width, channels = images.shape
    rows, columns = _grid(height, width, patch)
    squares = images.reshape(n, rows, patch, columns, patch, channels).swapaxes(2, 3)
    return squares.reshape(n, rows * columns, patch * patch * channels)


def unpatchify(patches: Array, patch: int, height: int, width: int) -> Array:
    """Reassembles images that :func:`patchify` cut.

    Args:
      patches: ``[n, squares, patch * patch * channels]``.
      patch: height and width of a square in pixels.
      height: height of the images.
      width: width of the images.

    Returns:
      ``[n, height, width, channels]``.

    Raises:
      ValueError: squares do not fill such images, or their number is wrong.

    >>> images = jnp.arange(16).reshape(1, 4, 4, 1)
    >>> bool((unpatchify(patchify(images, 2), 2, 4, 4) == images).all())
    True
    """
    rows, columns = _grid(height, width, patch)
    n, squares, size = patches.shape
    if squares != rows * columns or size % (patch * patch):
        raise ValueError(
            f"Patches have shape {list(patches.shape)}: images of {height} x {width} pixels have "
            f"{rows * columns} patches of {patch * patch} pixels, with all channels of each."
        )
    channels = size // (patch * patch)
    images = patches.reshape(n, rows, columns, patch, patch, channels).swapaxes(2, 3)
    return images.reshape(n, height, width, channels)


def position_embeddings(rows: int, columns: int, width: int) -> Array:
    r"""Fixed embeddings of the positions of a grid, row by row.

    .. math:: e(i, j) = [\sin(j\omega),\; \cos(j\omega),\; \sin(i\omega),\; \cos(i\omega)], \qquad
              \omega_k = 10000^{-4k / d}, \quad k = 0, \ldots, d / 4 - 1

    Args:
      rows: number of rows i.
      columns: number of columns j.
      width: d, size of a token.

    Returns:
      ``[rows * columns, width]``.

    Raises:
      ValueError: the width is not a multiple of 4.

    References:
      He et al., 2022, Masked Autoencoders Are Scalable Vision Learners, appendix A.1.

    >>> position_embeddings(8, 8, 16).shape, position_embeddings(1, 1, 4)[0].tolist()
    ((64, 16), [0.0, 1.0, 0.0, 1.0])
    """
    _check_width(width, 4, _WAVES)
    frequencies = 10000.0 ** (-np.arange(width // 4) / (width // 4))
    row, column = (place.reshape(-1, 1) * frequencies for place in np.indices((rows, columns)))
    parts = [wave(angle) for angle in (column, row) for wave in (np.sin, np.cos)]
    return jnp.asarray(np.concatenate(parts, axis=1), jnp.float32)


def embed_patches(layer: PyTree, images: Array, patch: int) -> Array:
    """Images ``[n, height, width, channels]`` as tokens ``[n, tokens, width]`` with positions.

    Args:
      layer: a linear layer from pixels of a patch to a token, as :func:`dense` takes it.
      images: ``[n, height, width, channels]``.
      patch: height and width of a patch in pixels.

    Raises:
      ValueError: patches do not fill the images, or the layer is for patches of another size.

    >>> layer = {"kernel": jnp.ones((16, 8)), "bias": jnp.zeros(8)}
    >>> embed_patches(layer, jnp.ones((2, 8, 12, 1)), 4).shape
    (2, 6, 8)
    """
    tokens = dense(layer, patchify(images, patch))
    grid = _grid(images.shape[1], images.shape[2], patch)
    return tokens + position_embeddings(*grid, tokens.shape[-1]).astype(tokens.dtype)[None]


def init_encoder(key: Key, width: int, depth: int, heads: int, expansion: int = 4) -> PyTree:
    """The parameters of :func:`encode_tokens`.

    Args:
      key: randomness.
      width: size of a token.
      depth: number of blocks.
      heads: number of heads of each attention.
      expansion: width of the hidden layer of each MLP, as a multiple of a token's.

    Returns:
      ``{"block0": {...}, ..., "norm": {"scale", "offset"}}``; each block is ``{"attention_norm",
      "attention": {"query", "key", "value", "output"}, "mlp_norm", "mlp": {"hidden", "output"}}``,
      norms with ``"scale"`` and ``"offset"``, linear layers with ``"kernel"`` and ``"bias"``. The
      kernels of query, key and value are ``[width, heads, size]``, that of the attention's output
      ``[heads, size, width]``, all others and the biases as for :func:`dense`.

    Raises:
      ValueError: the width is not a multiple of ``heads``.

    >>> params = init_encoder(jax.random.key(0), width=4, depth=2, heads=2)
    >>> sorted(params), params["block0"]["attention"]["query"]["kernel"].shape
    (['block0', 'block1', 'norm'], (4, 2, 2))
    """
    _check_width(width, heads)
    size = width // heads
    shapes = dict.fromkeys(("query", "key", "value"), (width, heads, size))
    shapes["output"] = (heads, size, width)
    params: dict[str, PyTree] = {}
    for i, block_key in enumerate(jax.random.split(key, depth)):
        *keys, hidden_key, output_key = jax.random.split(block_key, len(shapes) + 2)
        attention_params = {}
        for (name, shape), own in zip(shapes.items(), keys, strict=True):
            layer = init_dense(own, width, width)
            attention_params[name] = layer | {"kernel": layer["kernel"].reshape(shape)}
        params[f"block{i}"] = {
            "attention_norm": _init_norm(width),
            "attention": attention_params,
            "mlp_norm": _init_norm(width),
            "mlp": {
                "hidden": init_dense(hidden_key, width, expansion * width),
                "output": init_dense(output_key, expansion * width, width),
            },
        }
    return params | {"norm": _init_norm(width)}


def encode_tokens(params: PyTree, tokens: Array, mask: Array | None = None) -> Array:
    """All blocks, and a final normalization of each token.

    Args:
      params: those of :func:`init_encoder`.
      tokens: ``[n, tokens, width]``, with positions; any subset of them, in any order.
      mask: as for :func:`attention`.

    Returns:
      ``[n, tokens, width]``.

    Raises:
      ValueError: the width is not that of the parameters.

    >>> params = init_encoder(jax.random.key(0), width=8, depth=1, heads=2)
    >>> encode_tokens(params, jnp.ones((2, 5, 8))).shape
    (2, 5, 8)
    """
    for i in range(len(params) - 1):
        tokens = transformer_block(params[f"block{i}"], tokens, mask)
    return layer_norm(tokens, **params["norm"])


def transformer_block(params: PyTree, x: Array, mask: Array | None = None) -> Array:
    r"""Attention and an MLP with GELU, each applied to normalized tokens and added to its input.

    .. math:: y = x + \mathrm{attention}(\mathrm{norm}(x)), \qquad
              z = y + \mathrm{mlp}(\mathrm{norm}(y))

    Args:
      params: those of one block of :func:`init_encoder`.
      x: tokens ``[n, tokens, width]``.
      mask: as for :func:`attention`.

    Raises:
      ValueError: the width is not that of the parameters.

    References:
      Vaswani et al., 2017, Attention Is All You Need, section 3; Xiong et al., 2020, On Layer
      Normalization in the Transformer Architecture, for the placement of the normalization.

    >>> params = init_encoder(jax.random.key(0), width=8, depth=1, heads=2)["block0"]
    >>> transformer_block(params, jnp.ones((2, 5, 8))).shape
    (2, 5, 8)
    """
    x = x + attention(params["attention"], layer_norm(x, **params["attention_norm"]), mask)
    hidden = dense(params["mlp"]["hidden"], layer_norm(x, **params["mlp_norm"]))
    return x + dense(params["mlp"]["output"], jax.nn.gelu(hidden))


def attention(params: PyTree, x: Array, mask: Array | None = None) -> Array:
    r"""Each token sees a mean of all values, weighted by how its query matches their keys.

    .. math:: \mathrm{softmax}(Q K^\top / \sqrt{d})\, V \quad \text{of each head, of size } d

    Args:
      params: linear layers ``{"query", "key", "value", "output"}``, those of a block of
        :func:`init_encoder`; the shapes of their kernels give the heads.
      x: tokens ``[n, tokens, width]``.
      mask: ``[n, tokens]``; tokens with mask 0 are not attended to. ``None`` is all ones.

    Raises:
      ValueError: the width is not that of the parameters.

    References:
      Vaswani et al., 2017, Attention Is All You Need, section 3.2.

    >>> params = init_encoder(jax.random.key(0), width=8, depth=1, heads=2)["block0"]["attention"]
    >>> x, mask = jnp.ones((1, 3, 8)), jnp.array([[1.0, 1.0, 0.0]])
    >>> seen, changed = (attention(params, x.at[0, 2].set(v), mask)[0, 0] for v in (1.0, 7.0))
    >>> bool((seen == changed).all())
    True
    """
    width, heads, size = params["query"]["kernel"].shape

    def of_heads(layer: PyTree) -> Array:
        flat = layer | {"kernel": layer["kernel"].reshape(width, -1)}
        return dense(flat, x).reshape(*x.shape[:2], heads, size).swapaxes(1, 2)

    query, key, value = (of_heads(params[name]) for name in ("query", "key", "value"))
    # Not jax.nn.dot_product_attention, which rejects bfloat16 where types are strict.
    products = jnp.matmul(query, key.swapaxes(2, 3), preferred_element_type=wide_type(x.dtype))
    scores = products / math.sqrt(size)
    if mask is not None:
        scores = jnp.where(mask[:, None, None] > 0, scores, jnp.finfo(scores.dtype).min)
    seen = jax.nn.softmax(scores, axis=-1).astype(value.dtype) @ value
    output = params["output"] | {"kernel": params["output"]["kernel"].reshape(-1, width)}
    return dense(output, seen.swapaxes(1, 2).reshape(x.shape))


def _init_norm(width: int) -> dict[str, Array]:
    return {"scale": jnp.ones(width, jnp.float32), "offset": jnp.zeros(width, jnp.float32)}


def _grid(height: int, width: int, patch: int) -> tuple[int, int]:
    """The numbers of rows and columns of patches; raises ``ValueError`` if they do not fit."""
    if height % patch or width % patch:
        raise ValueError(
            f"Images of {height} x {width} pixels are not filled by patches of {patch} x {patch}: "
            "give a patch that divides both."
        )
    return height // patch, width // patch


def _check_width(width: int, parts: int, why: str = "the number of heads") -> None:
    if width % parts:
        raise ValueError(f"width is {width}: give a multiple of {parts}, {why}.")
