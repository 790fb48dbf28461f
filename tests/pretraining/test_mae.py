"""Masked autoencoders: what is hidden, what is predicted from what, and what is trained."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import plots
from jaxmeta import pretraining
from jaxmeta.data import array_source
from jaxmeta.nn import (
    embed_patches,
    encode_tokens,
    mixed_precision,
    patchify,
    position_embeddings,
    unpatchify,
    vit,
)
from jaxmeta.nn.layers import dense
from jaxmeta.pretraining import mae, mae_loss, mae_reconstruction
from jaxmeta.pretraining.mae import fill_in
from jaxmeta.train import init_train_state, outer_loop
from jaxmeta.types import Batch

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
N, PATCH, PATCHES, VISIBLE = 5, 2, 12, 4
SHARE = 0.6
MODEL = vit(patch=PATCH, width=12, depth=1, heads=3)
OBJECTIVE = mae(MODEL, mask_share=SHARE, decoder_width=8, decoder_depth=1, decoder_heads=2)
IMAGES = jnp.asarray(RANDOM.uniform(size=(N, 6, 8, 1)), jnp.float32)
BATCH = Batch(IMAGES, jnp.arange(N), jnp.ones(N))
BEGUN = jax.jit(lambda: OBJECTIVE.init(KEY, BATCH)[0])()
# Numbers that are nowhere at their initial values.
PARAMS = jax.tree.map(
    lambda leaf: leaf + 0.3 * RANDOM.normal(size=leaf.shape).astype(np.float32), BEGUN
)
# One process compiles for all.
pytestmark = pytest.mark.xdist_group("mae")


@jax.jit
def filled_in(images, key=KEY):
    return fill_in(MODEL, PARAMS, images, key, SHARE)


@jax.jit
def hidden_of(images, key=KEY):
    return fill_in(MODEL, PARAMS, images, key, SHARE)[1]


@jax.jit
def loss_and_gradient(batch):
    loss = jax.value_and_grad(lambda params: OBJECTIVE.loss(params, {}, batch, KEY)[0])
    return loss(PARAMS)


def test_each_image_hides_patches_of_its_own():
    hidden = hidden_of(IMAGES)
    assert hidden.sum(axis=1).tolist() == [PATCHES - VISIBLE] * N
    assert len({tuple(row) for row in hidden.tolist()}) > 1
    assert (hidden != hidden_of(IMAGES, jax.random.key(1))).any()
    np.testing.assert_array_equal(hidden_of(IMAGES[:3]), hidden[:3])
    many = hidden_of(jnp.ones((900, 6, 8, 1)))
    np.testing.assert_allclose(many.mean(axis=0), 1 - VISIBLE / PATCHES, atol=0.1)


@pytest.mark.parametrize(("share", "visible"), [(0.75, 5), (0.9, 2), (0.7, 6), (0.97, 0)])
def test_the_visible_share_is_rounded_down(share, visible):
    """Of twenty patches, whatever 1 - 0.9 is in binary."""
    hide = jax.jit(lambda x: fill_in(MODEL, PARAMS, x, KEY, share)[1])
    if not visible:
        with pytest.raises(ValueError, match=r"mask_share is 0\.97, which leaves 0 of 20 patches"):
            hide(jnp.ones((1, 4, 20, 1)))
    else:
        assert hide(jnp.ones((1, 4, 20, 1))).sum() == 20 - visible


def test_all_tokens_come_back_to_their_places():
    """The same with no token moved: an encoder whose attention is masked, and no shuffling."""
    predictions, hidden = filled_in(IMAGES)

    @jax.jit
    def in_place(images):
        model, decoder = PARAMS["model"], PARAMS["decoder"]
        tokens = embed_patches(model["patches"], images, PATCH)
        tokens = dense(decoder["embed"], encode_tokens(model["encoder"], tokens, 1 - hidden))
        tokens = jnp.where(hidden[..., None] > 0, decoder["mask_token"][None, None], tokens)
        tokens += position_embeddings(3, 4, 8)[None]
        return dense(decoder["pixels"], encode_tokens(decoder["blocks"], tokens))

    np.testing.assert_allclose(predictions, in_place(IMAGES), atol=1e-4)


def test_hidden_pixels_change_no_prediction_and_visible_ones_change_all():
    predictions, hidden = filled_in(IMAGES)
    pixels = unpatchify(jnp.repeat(hidden[..., None], 4, axis=-1), PATCH, 6, 8)
    unseen = filled_in(jnp.where(pixels > 0, jnp.nan, IMAGES))[0]
    np.testing.assert_array_equal(unseen, predictions)
    last = np.array([np.flatnonzero(row == 0)[-1] for row in hidden])
    patches = patchify(IMAGES, PATCH).at[np.arange(N), last, 3].add(1.0)
    other = filled_in(unpatchify(patches, PATCH, 6, 8))[0]
    assert (np.abs(other - predictions).max(axis=-1) > 1e-5).all()


def test_a_reconstruction_keeps_what_is_visible():
    (images, gone), (predictions, hidden) = (
        jax.jit(lambda x: mae_reconstruction(MODEL, PARAMS, x, KEY, SHARE))(IMAGES),
        filled_in(IMAGES),
    )
    np.testing.assert_array_equal(patchify(gone, PATCH), np.repeat(hidden[..., None] > 0, 4, -1))
    np.testing.assert_array_equal(np.where(gone, 0, images), np.where(gone, 0, IMAGES))
    given, filled = (patchify(each, PATCH)[hidden > 0] for each in (IMAGES, images))
    standard = (filled - given.mean(-1)[:, None]) / given.std(-1, ddof=1)[:, None]
    np.testing.assert_allclose(standard, predictions[hidden > 0], rtol=1e-2, atol=1e-3)


def test_the_loss_is_that_of_hidden_standardized_patches():
    predictions, targets = np.float32(RANDOM.normal(size=(2, N, PATCHES, 4)))
    hidden, mask = np.zeros((N, PATCHES)), np.array([1, 0, 1, 1, 0])
    hidden[:, ::2] = 1
    standard = np.float64(targets - np.float64(targets).mean(-1, keepdims=True))
    standard /= np.sqrt(np.float64(targets).var(-1, ddof=1, keepdims=True) + 1e-6)
    errors = (predictions - standard)[mask > 0][:, ::2] ** 2
    given = [jnp.asarray(each, jnp.float32) for each in (predictions, targets, hidden, mask)]
    of_all = jax.jit(jax.value_and_grad(mae_loss, argnums=(0, 1)))
    value, slopes = of_all(*given)
    np.testing.assert_allclose(value, errors.mean(), rtol=1e-5)
    for slope in slopes:
        counted = np.abs(slope).max(axis=-1) > 0
        np.testing.assert_array_equal(counted, hidden * mask[:, None] > 0)
    # A patch of one color has no deviation, and no patch at all no mean.
    flat, slopes = of_all(given[0], jnp.full_like(given[1], 0.3), *given[2:])
    none, _ = of_all(*given[:3], jnp.zeros(N))
    assert np.isfinite(flat)
    assert all(np.isfinite(slope).all() for slope in slopes)
    assert none == 0


def test_padding_and_labels_change_nothing():
    padded = BATCH._replace(mask=jnp.array([1.0, 1.0, 1.0, 0.0, 0.0]))
    changed = padded._replace(x=IMAGES.at[3:].set(9.0), y=BATCH.y[::-1])
    jax.tree.map(
        np.testing.assert_array_equal, loss_and_gradient(padded), loss_and_gradient(changed)
    )


def test_its_encoder_is_a_vit():
    assert jax.eval_shape(OBJECTIVE.init, KEY, BATCH)[1] == {}
    shapes, state = jax.eval_shape(MODEL.init, KEY, IMAGES)
    assert jax.tree.map(jnp.shape, PARAMS["model"]) == jax.tree.map(jnp.shape, shapes)
    features, _ = jax.eval_shape(MODEL.apply, PARAMS["model"], state, IMAGES)
    assert features.shape == (N, 12)
    # Every part is trained.
    slopes = jax.tree.map(lambda leaf: np.abs(leaf).max(), loss_and_gradient(BATCH)[1])
    del slopes["model"]["encoder"]["block0"]["attention"]["key"]["bias"]  # softmax leaves it out
    assert min(jax.tree.leaves(slopes["model"])) > 0


def test_in_mixed_precision_the_encoder_computes_in_fewer_bits():
    half = mae(mixed_precision(MODEL), decoder_width=8, decoder_depth=1, decoder_heads=2)
    whole = mae(MODEL, decoder_width=8, decoder_depth=1, decoder_heads=2)
    one, other = (each.loss(PARAMS, {}, BATCH, KEY)[0] for each in (half, whole))
    assert one.dtype == jnp.float32
    assert 0 < abs(one - other) < 0.05


def test_textures_that_any_patch_shows_are_learned():
    """Dark images are striped in one direction, and bright ones in the other."""
    stripes = np.zeros((2, 6, 8, 1), np.float32)
    stripes[0, ::2], stripes[1, :, ::2] = 1, -1
    source = array_source(np.repeat(stripes, 8, axis=0), np.repeat([0, 1], 8))
    optimizer = optax.adam(0.01)
    update = outer_loop(OBJECTIVE, optimizer, source.batches(8), meta_batch=1)
    losses = update(init_train_state(optimizer, BEGUN, {}), source.data, KEY, 100)[1]["loss"]
    assert losses[-10:].mean() < 0.1 * losses[:3].mean()


def test_the_picture_of_reconstructions(tmp_path, monkeypatch):
    source = array_source(np.asarray(IMAGES), np.arange(N))
    spec = {"make": "jaxmeta.pretraining.mae", "mask_share": SHARE}
    config = {
        "objective": {"make": "jaxmeta.objectives.augmented", "objective": spec},
        "model": {"make": "jaxmeta.nn.vit", "patch": PATCH, "width": 12, "depth": 1, "heads": 3},
        "mixed_precision": False,
    }
    monkeypatch.setattr(plots.pretraining.workdir, "read_best", lambda *arguments: (3, PARAMS))
    monkeypatch.setattr(plots.pretraining.workdir, "read_config", lambda folder: config)
    plots.reconstructions(tmp_path, source, shown=2)
    assert (tmp_path / "reconstructions.png").stat().st_size > 1_000
    (tmp_path / "reconstructions.png").unlink()
    config["objective"] = {"make": "jaxmeta.pretraining.rotation"}
    plots.reconstructions(tmp_path, source)
    assert not list(tmp_path.iterdir())


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"mask_share is 1: give a share between 0 and 1"):
        mae(MODEL, mask_share=1)
    with pytest.raises(ValueError, match="decoder_depth is 0: give a whole number, 1 or more"):
        mae(MODEL, decoder_depth=0)
    with pytest.raises(ValueError, match=r"the model is another: give jaxmeta\.nn\.vit without"):
        mae(vit(3, PATCH, 12, 1)).init(KEY, BATCH)
    with pytest.raises(ValueError, match=r"the task is a tuple: draw it by source\.batches"):
        OBJECTIVE.init(KEY, (IMAGES, IMAGES))
    with pytest.raises(ValueError, match=r"mae got inputs of shape \(5, 48\): give images"):
        OBJECTIVE.loss(PARAMS, {}, BATCH._replace(x=IMAGES[..., 0].reshape(N, 48)), KEY)
    assert pretraining.mae is mae
