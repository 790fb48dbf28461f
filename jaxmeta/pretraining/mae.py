"""MAE: most patches of an image are hidden and reconstructed from the few visible ones."""

import math

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.losses import masked_mean
from jaxmeta.nn import (
    Patches,
    encode_tokens,
    init_encoder,
    patchify,
    position_embeddings,
    unpatchify,
)
from jaxmeta.nn.layers import dense, init_dense
from jaxmeta.pretraining.shapes import check_shapes
from jaxmeta.types import Array, Batch, Key, Model, Objective, PyTree, Report


def mae(
    model: Model,
    *,
    mask_share: float = 0.75,
    decoder_width: int = 96,
    decoder_depth: int = 4,
    decoder_heads: int = 3,
) -> Objective:
    r"""Reconstruction of the hidden patches of images, by :func:`mae_loss`.

    .. math:: \hat x = g\big(U [f(x_{o_1}, \ldots, x_{o_v}),\; m, \ldots, m]\big)

    where o is a random order of the L patches and the encoder f sees only the first
    :math:`v = \lfloor (1 - s) L \rfloor`. One learned token m stands in for each of the others, U
    undoes the order, and the decoder g is given the positions. With few tokens, a large encoder is
    cheap. Only the encoder is kept, to be applied to whole images.

    Args:
      model: the encoder, a :func:`jaxmeta.nn.vit` without ``outputs``.
      mask_share: s, the share of the patches that are hidden.
      decoder_width: size of the decoder's tokens.
      decoder_depth: number of its blocks.
      decoder_heads: number of its attention heads.

    Returns:
      An objective over batches of images, with parameters ``{"model", "decoder"}``, where
      ``"model"`` is the model's; it has no state.

    Raises:
      ValueError: a number is not a positive integer, the share is not between 0 and 1 or, when
        called, the model is not a ``vit`` without ``outputs``, the task is not a batch of images,
        no patch is visible or none is hidden, or a width does not fit heads and positions.

    References:
      He, Chen, Xie, Li, Dollár and Girshick, 2022, Masked Autoencoders Are Scalable Vision
      Learners, section 3. There is no class token, as the model has none. Initialization follows
      the authors' code, with normal instead of uniform kernels of the same variance.

    >>> from jaxmeta.nn import vit
    >>> objective = mae(vit(patch=4))
    """
    counts = {"width": decoder_width, "depth": decoder_depth, "heads": decoder_heads}
    for name, count in counts.items():
        check_count(f"decoder_{name}", count, least=1)
    if not 0 < mask_share < 1:
        raise ValueError(f"mask_share is {mask_share}: give a share between 0 and 1.")

    def init(key: Key, batch: Batch) -> tuple[PyTree, PyTree]:
        model_key, embed_key, token_key, blocks_key, pixels_key = jax.random.split(key, 5)
        params, state = model.init(model_key, _images_of(batch))
        if not isinstance(params, dict) or set(params) != {"patches", "encoder"}:
            raise ValueError(
                "mae trains the patches and the encoder of a vit, and the model is another: give "
                "jaxmeta.nn.vit without outputs."
            )
        pixels, width = params["patches"]["kernel"].shape
        decoder = {
            "embed": init_dense(embed_key, width, decoder_width),
            "mask_token": 0.02 * jax.random.normal(token_key, (decoder_width,), jnp.float32),
            "blocks": init_encoder(blocks_key, decoder_width, decoder_depth, decoder_heads),
            "pixels": init_dense(pixels_key, decoder_width, pixels),
        }
        return {"model": params, "decoder": decoder}, state

    def loss(params: PyTree, state: PyTree, batch: Batch, key: Key) -> tuple[Array, Report]:
        images = _images_of(batch)
        predictions, hidden = fill_in(model, params, images, key, mask_share)
        targets = patchify(images, _patch(params, images))
        return mae_loss(predictions, targets, hidden, batch.mask), Report()

    return Objective(init, loss)


def mae_loss(predictions: Array, targets: Array, hidden: Array, mask: Array) -> Array:
    r"""The mean squared error on hidden patches, each of them standardized.

    .. math:: \operatorname*{mean}_{(i, l)\; \text{hidden}} \frac1p
              \Big\lVert \hat x_{il} - \frac{x_{il} - \mu_{il}}{\sqrt{\sigma^2_{il} + \epsilon}}
              \Big\rVert^2

    with mean :math:`\mu` and unbiased variance :math:`\sigma^2` of a patch's own p numbers, and
    :math:`\epsilon = 10^{-6}`. Flat patches thus count as much as high-contrast ones, and what is
    predicted is which parts of a patch are brighter.

    Args:
      predictions: of standardized patches, ``[n, patches, p]``.
      targets: the patches, not standardized, ``[n, patches, p]``.
      hidden: ``[n, patches]``, 1 for a patch to be predicted and 0 for a visible one, which is
        ignored.
      mask: ``[n]``; padding is ignored.

    Raises:
      ValueError: the shapes differ from these.

    References:
      He et al., 2022, section 3 and, for the standardized targets, table 1d.

    >>> targets, hidden = jnp.array([[[1.0, 3.0], [5.0, 5.0]]]), jnp.array([[1.0, 0.0]])
    >>> mae_loss(jnp.zeros((1, 2, 2)), targets, hidden, jnp.ones(1)).round(4).item()
    0.5
    """
    expected = (
        "predictions [n, patches, p], targets [n, patches, p], hidden [n, patches] and mask [n]"
    )
    check_shapes(expected, predictions, targets, hidden, mask)
    mean, deviation = _moments(targets)
    errors = jnp.mean((predictions - (targets - mean) / deviation) ** 2, axis=-1)
    return masked_mean(errors.ravel(), (hidden * mask[:, None]).ravel())


def fill_in(
    model: Model, params: PyTree, images: Array, key: Key, mask_share: float = 0.75
) -> tuple[Array, Array]:
    """Hides patches, chosen for each image separately, and predicts them from the others.

    Args:
      model: as for :func:`mae`.
      params: the parameters that its objective trains.
      images: ``[n, height, width, channels]``.
      key: randomness, which chooses the hidden patches.
      mask_share: as for :func:`mae`.

    Returns:
      Predictions of all standardized patches, ``[n, patches, p]``, of which those for visible
      patches are untrained; and ``[n, patches]``, 1 for a hidden patch and 0 for a visible one.

    Raises:
      ValueError: patches do not fill the images, no patch is visible, or none is hidden.
    """
    decoder, patch = params["decoder"], _patch(params, images)
    n, patches, _ = patchify(images, patch).shape
    visible = _visible(patches, mask_share)
    order = jnp.argsort(jax.random.uniform(key, (n, patches)), axis=1)
    place = jnp.argsort(order, axis=1)  # of each patch in that order

    tokens, _ = model.apply(params["model"], {}, Patches(images, order[:, :visible]), None, None)
    seen = dense(decoder["embed"], tokens)
    token = decoder["mask_token"].astype(seen.dtype)[None, None]
    unseen = jnp.broadcast_to(token, (n, patches - visible, token.shape[-1]))
    filled = _taken(jnp.concatenate([seen, unseen], axis=1), place)
    grid = images.shape[1] // patch, images.shape[2] // patch
    positions = position_embeddings(*grid, seen.shape[-1]).astype(seen.dtype)
    decoded = encode_tokens(decoder["blocks"], filled + positions[None])
    hidden = (place >= visible).astype(jnp.float32)
    return dense(decoder["pixels"], decoded), hidden


def mae_reconstruction(
    model: Model, params: PyTree, images: Array, key: Key, mask_share: float = 0.75
) -> tuple[Array, Array]:
    """Images with their hidden patches filled in, for viewing.

    Since standardized patches are predicted, each hidden patch is given its true mean and
    deviation: what is shown is a little more than the network knows.

    Args:
      model: as for :func:`mae`.
      params: as for :func:`fill_in`.
      images: as for :func:`fill_in`.
      key: as for :func:`fill_in`.
      mask_share: as for :func:`fill_in`.

    Returns:
      The images, whose visible patches are unchanged, and booleans of the same shape that say which
      pixels were hidden.

    Raises:
      ValueError: as for :func:`fill_in`.
    """
    predictions, hidden = fill_in(model, params, images, key, mask_share)
    patch = _patch(params, images)
    patches = patchify(images, patch)
    mean, deviation = _moments(patches)
    gone = jnp.broadcast_to(hidden[..., None] > 0, patches.shape)
    filled = jnp.where(gone, predictions * deviation + mean, patches)
    size = images.shape[1:3]
    return unpatchify(filled, patch, *size), unpatchify(gone, patch, *size)


def _moments(patches: Array) -> tuple[Array, Array]:
    """Mean and deviation of each patch, ``[n, patches, 1]``; the latter is never 0."""
    mean = jnp.mean(patches, axis=-1, keepdims=True)
    squares = jnp.sum((patches - mean) ** 2, axis=-1, keepdims=True)
    return mean, jnp.sqrt(squares / max(patches.shape[-1] - 1, 1) + 1e-6)


def _taken(tokens: Array, places: Array) -> Array:
    """Tokens ``[n, tokens, width]`` at places ``[n, taken]`` of each row."""
    return jnp.take_along_axis(tokens, places[..., None], axis=1)


def _visible(patches: int, mask_share: float) -> int:
    """How many patches are visible."""
    # Rounded, as 1 - 0.9 is a little less than a tenth.
    visible = math.floor(round((1 - mask_share) * patches, 6))
    if not 0 < visible < patches:
        raise ValueError(
            f"mask_share is {mask_share}, which leaves {visible} of {patches} patches visible: "
            "give a share that leaves one or more visible and one or more hidden."
        )
    return visible


def _patch(params: PyTree, images: Array) -> int:
    """Height and width of a patch in pixels, from the number of inputs of the first layer."""
    return math.isqrt(params["model"]["patches"]["kernel"].shape[0] // images.shape[-1])


def _images_of(batch: Batch) -> Array:
    """The images of a batch; raises ``ValueError`` if there are none."""
    if not isinstance(batch, Batch):
        raise ValueError(
            f"mae is an objective of batches and the task is a {type(batch).__name__}: draw it by "
            "source.batches, in a config by sample = {'batches': 128}."
        )
    if getattr(batch.x, "ndim", None) != 4:
        raise ValueError(
            f"mae got inputs of shape {jax.tree.map(jnp.shape, batch.x)}: give images [n, height, "
            "width, channels]."
        )
    return batch.x
