"""A small vision transformer, and images as patches."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.checks import check_count
from jaxmeta.nn.layers import dense, init_dense
from jaxmeta.nn.models import check_head
from jaxmeta.nn.transformer import check_width, encode_tokens, init_encoder
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
    check_width(width, heads)
    check_width(width, 4, _WAVES)

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
    check_width(width, 4, _WAVES)
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


def _grid(height: int, width: int, patch: int) -> tuple[int, int]:
    """The numbers of rows and columns of patches; raises ``ValueError`` if they do not fit."""
    if height % patch or width % patch:
        raise ValueError(
            f"Images of {height} x {width} pixels are not filled by patches of {patch} x {patch}: "
            "give a patch that divides both."
        )
    return height // patch, width // patch
