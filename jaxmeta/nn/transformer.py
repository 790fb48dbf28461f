"""Transformers: blocks as pure functions of tokens.

A token is a vector, and tokens are ``[n, tokens, width]``. The blocks do not depend on where
tokens come from, so they work for images, parts of images, and text.
"""

import math

import jax
import jax.numpy as jnp

from jaxmeta.nn.layers import dense, init_dense, layer_norm, wide_type
from jaxmeta.types import Array, Key, PyTree


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
    check_width(width, heads)
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


def check_width(width: int, parts: int, why: str = "the number of heads") -> None:
    """Raises ``ValueError`` if the width of a token cannot be divided into so many parts."""
    if width % parts:
        raise ValueError(f"width is {width}: give a multiple of {parts}, {why}.")
