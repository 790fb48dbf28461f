"""Encoders of texts: words in, one vector out.

Inputs are dictionaries: ``"tokens"``, int32 ``[n, length]``, where 0 is padding; ``"words"``
``[n, length, d]``, the vectors of the tokens, if the source of the data looks them up; and whatever
else an encoder needs. Encoders handle padding themselves, as it differs between sentences: nothing
after the end of a sentence changes its encoding, and a sentence without words is encoded as zeros.
"""

import math

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.nn.layers import dense, init_dense
from jaxmeta.nn.models import check_head
from jaxmeta.nn.transformer import encode_tokens, init_encoder
from jaxmeta.types import Array, Key, Model, PyTree

REACH = 128
PADDING, UNKNOWN = 0, 1


def sentence_cnn(
    outputs: int | None = None,
    filters: int = 230,
    window: int = 3,
    positions: int = 0,
    vocabulary: int | None = None,
    width: int = 50,
) -> Model:
    r"""A convolution over the words of a sentence, then the maximum over its windows.

    .. math:: f(x) = \max_i\; \mathrm{relu}\big(b + \sum_k W_k\, v_{i + k}\big)

    where :math:`v_i` is the vector of word i, extended, with ``positions``, by the vectors of its
    distances from the head and tail entities.

    Args:
      outputs: size of a linear head, whose parameters are named ``"head"``; with ``None`` there is
        no head, and the model is an embedding.
      filters: number of features.
      window: number of words under the convolution.
      positions: size of the vector of each of the two distances, from the positions ``"head"`` and
        ``"tail"`` of the inputs, int32 ``[n]``; 0 for none. Distances are clipped at 128.
      vocabulary: number of rows of a trained table of word vectors, which belong to the words with
        the lowest numbers. If the inputs have ``"words"``, the table starts at zero and is added to
        them. ``None`` for no table.
      width: size of the word vectors if only the table has them.

    Returns:
      A model from sentences to ``[n, outputs]`` or ``[n, filters]``. It has no state.

    Raises:
      ValueError: a number is not a positive integer, or (from ``init``) the inputs have no vectors
        and there is no table.

    References:
      Zeng, Liu, Lai, Zhou and Zhao, 2014, Relation Classification via Convolutional Deep Neural
      Network; Han et al., 2018, FewRel, section 4 (its code takes the maximum over padding, too).

    >>> model = sentence_cnn(filters=8)
    >>> x = {"tokens": jnp.array([[3, 2, 0]]), "words": jnp.ones((1, 3, 5))}
    >>> params, state = model.init(jax.random.key(0), x)
    >>> model.apply(params, state, x)[0].shape
    (1, 8)
    """
    counts = {"filters": filters, "window": window, "width": width}
    for name, count in counts.items():
        check_count(name, count, least=1)
    check_count("positions", positions)
    check_head(outputs, True)

    def init(key: Key, x: PyTree) -> tuple[PyTree, PyTree]:
        words_key, positions_key, kernel_key, head_key = jax.random.split(key, 4)
        params, size = _init_words(words_key, x, vocabulary, width)
        if positions:
            table = jax.random.normal(positions_key, (2, 2 * REACH, positions), jnp.float32)
            params["positions"] = table / math.sqrt(positions)
        params["convolution"] = init_dense(kernel_key, window * (size + 2 * positions), filters)
        if outputs is not None:
            params["head"] = init_dense(head_key, filters, outputs)
        return params, {}

    def apply(
        params: PyTree,
        state: PyTree,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
        batch_statistics: bool = True,
    ) -> tuple[Array, PyTree]:
        vectors, real = _word_vectors(params, x), x["tokens"] > 0
        if positions:
            places = jnp.stack([x["head"], x["tail"]])[:, :, None]
            distances = jnp.arange(real.shape[1])[None, None] - places + REACH
            distances = jnp.clip(distances, 0, 2 * REACH - 1)
            near = [table[d] for table, d in zip(params["positions"], distances, strict=True)]
            vectors = jnp.concatenate([vectors, *near], axis=-1)
        # Zeros after the end of a sentence, as if nothing were there.
        vectors = jnp.where(real[..., None], vectors, jnp.zeros_like(vectors))
        before = (window - 1) // 2
        padded = jnp.pad(vectors, ((0, 0), (before, window - 1 - before), (0, 0)))
        length = real.shape[1]
        windows = [padded[:, i : i + length] for i in range(window)]
        maps = jax.nn.relu(dense(params["convolution"], jnp.concatenate(windows, axis=-1)))
        # After ReLU zero is the minimum, and the feature of a sentence without words.
        features = jnp.max(jnp.where(real[..., None], maps, jnp.zeros_like(maps)), axis=1)
        return (features if outputs is None else dense(params["head"], features)), state

    return Model(init, apply)


def mean_of_words(
    outputs: int | None = None,
    weighted: bool = True,
    vocabulary: int | None = None,
    width: int = 50,
) -> Model:
    r"""The mean of the word vectors of a text, weighted by the inputs' ``"weights"``.

    .. math:: f(x) = \frac{\sum_i w_i v_i}{\sum_i w_i}

    Words that have no vector do not count.

    Args:
      outputs: size of a linear head, whose parameters are named ``"head"``; with ``None`` there is
        no head, and the model is an embedding.
      weighted: use the weights; otherwise, or if the inputs have no weights, all words count alike.
      vocabulary: as in :func:`sentence_cnn`.
      width: as in :func:`sentence_cnn`.

    Returns:
      A model from texts to ``[n, outputs]`` or ``[n, d]``; with neither a head nor a table it has
      no parameters. It has no state.

    Raises:
      ValueError: as :func:`sentence_cnn`.

    References:
      Bao, Wu, Chang and Barzilay, 2020, Few-shot Text Classification with Distributional
      Signatures, section 4 (inverse frequencies as weights).

    >>> x = {"tokens": jnp.array([[3, 2, 0]]), "words": jnp.array([[[1.0], [5.0], [9.0]]])}
    >>> mean_of_words().apply({}, {}, x)[0].tolist()
    [[3.0]]
    """
    check_count("width", width, least=1)
    check_head(outputs, True)

    def init(key: Key, x: PyTree) -> tuple[PyTree, PyTree]:
        words_key, head_key = jax.random.split(key)
        params, size = _init_words(words_key, x, vocabulary, width)
        if outputs is not None:
            params["head"] = init_dense(head_key, size, outputs)
        return params, {}

    def apply(
        params: PyTree,
        state: PyTree,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
        batch_statistics: bool = True,
    ) -> tuple[Array, PyTree]:
        vectors = _word_vectors(params, x)
        # An unknown word has a vector only where one is trained.
        least = PADDING if vocabulary is not None else UNKNOWN
        weights = (x["tokens"] > least).astype(vectors.dtype)
        if weighted and "weights" in x:
            weights = weights * x["weights"]
        features = _weighted_mean(vectors, weights)
        return (features if outputs is None else dense(params["head"], features)), state

    return Model(init, apply)


def text_transformer(
    outputs: int | None = None,
    depth: int = 2,
    heads: int = 4,
    size: int = 128,
    vocabulary: int | None = None,
    width: int = 50,
) -> Model:
    """A Transformer over the words of a text; features are the mean of its last tokens.

    Args:
      outputs: size of a linear head, whose parameters are named ``"head"``; with ``None`` there is
        no head, and the model is an embedding.
      depth: number of blocks.
      heads: number of heads of each attention.
      size: size of a token within the blocks, to which words are projected.
      vocabulary: as in :func:`sentence_cnn`.
      width: as in :func:`sentence_cnn`.

    Returns:
      A model from texts to ``[n, outputs]`` or ``[n, size]``. Texts that also have ``"places"``,
      int32 ``[n, k]``, become the last tokens at these places ``[n, k, size]``, without a head. It
      has no state.

    Raises:
      ValueError: as :func:`sentence_cnn`, or ``size`` is not even or not a multiple of ``heads``.

    References:
      Vaswani et al., 2017, Attention Is All You Need, section 3, with its sinusoidal positions.

    >>> model = text_transformer(depth=1, heads=2, size=8)
    >>> x = {"tokens": jnp.array([[3, 2, 0]]), "words": jnp.ones((1, 3, 5))}
    >>> params, state = model.init(jax.random.key(0), x)
    >>> model.apply(params, state, x)[0].shape
    (1, 8)
    """
    for name, count in {"depth": depth, "heads": heads, "width": width}.items():
        check_count(name, count, least=1)
    check_count("size", size, least=2)
    check_head(outputs, True)
    if size % 2:
        raise ValueError(f"size is {size}: give an even one, as positions are sines and cosines.")

    def init(key: Key, x: PyTree) -> tuple[PyTree, PyTree]:
        words_key, project_key, encoder_key, head_key = jax.random.split(key, 4)
        params, own = _init_words(words_key, x, vocabulary, width)
        params["project"] = init_dense(project_key, own, size)
        params["encoder"] = init_encoder(encoder_key, size, depth, heads)
        if outputs is not None:
            params["head"] = init_dense(head_key, size, outputs)
        return params, {}

    def apply(
        params: PyTree,
        state: PyTree,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
        batch_statistics: bool = True,
    ) -> tuple[Array, PyTree]:
        tokens = dense(params["project"], _word_vectors(params, x))
        tokens += _sines(*tokens.shape[1:]).astype(tokens.dtype)[None]
        encoded = encode_tokens(params["encoder"], tokens, (x["tokens"] > 0).astype(jnp.float32))
        if "places" in x:
            return jnp.take_along_axis(encoded, x["places"][..., None], axis=1), state
        features = _weighted_mean(encoded, (x["tokens"] > 0).astype(encoded.dtype))
        return (features if outputs is None else dense(params["head"], features)), state

    return Model(init, apply)


def _init_words(
    key: Key, x: PyTree, vocabulary: int | None, width: int
) -> tuple[dict[str, PyTree], int]:
    """The parameters of the word vectors, and the size of the vectors."""
    if not isinstance(x, dict) or "tokens" not in x:
        raise ValueError(
            f"The inputs are {jax.tree.map(jnp.shape, x)}, and an encoder of texts takes "
            "dictionaries with 'tokens': give texts, as from jaxmeta.data.texts."
        )
    given = x.get("words")
    size = width if given is None else given.shape[-1]
    if vocabulary is None:
        if given is None:
            raise ValueError(
                "The inputs have no vectors of words: give the data set vectors, or the model "
                "vocabulary, the number of rows of a table of its own."
            )
        return {}, size
    check_count("vocabulary", vocabulary, least=1)
    table = jnp.zeros((vocabulary, size), jnp.float32)
    if given is None:
        table = jax.random.normal(key, table.shape, table.dtype) / math.sqrt(size)
    return {"embedding": table}, size


def _word_vectors(params: PyTree, x: PyTree) -> Array:
    """The vectors of the tokens, ``[n, length, d]``."""
    own = None
    if "embedding" in params:  # it has no rows for words that are not in training
        own = params["embedding"].at[x["tokens"]].get(mode="fill", fill_value=0)
    given = x.get("words")
    if own is None or given is None:
        return given if own is None else own
    return given.astype(own.dtype) + own


def _weighted_mean(vectors: Array, weights: Array) -> Array:
    """Means over tokens ``[n, d]``, zeros where all weights are 0."""
    total = jnp.sum(weights, axis=1)[:, None]
    sums = jnp.sum(vectors * weights[..., None], axis=1)
    return jnp.where(total > 0, sums / jnp.where(total > 0, total, jnp.ones_like(total)), 0)


def _sines(length: int, size: int) -> Array:
    """Sines and cosines of the positions of words, ``[length, size]``."""
    rates = 10000.0 ** (-jnp.arange(size // 2, dtype=jnp.float32) / (size // 2))
    angles = jnp.arange(length, dtype=jnp.float32)[:, None] * rates[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1)
