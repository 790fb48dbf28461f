"""Transformers, against flax and numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from jaxmeta.nn import (
    attention,
    embed_patches,
    encode_tokens,
    init_encoder,
    layer_norm,
    mixed_precision,
    patchify,
    position_embeddings,
    unpatchify,
    vit,
)

KEYS = jax.random.split(jax.random.key(0), 4)
WIDTH, HEADS = 12, 3
# One process compiles for all.
pytestmark = pytest.mark.xdist_group("transformer")


def moved(tree):
    """Numbers that are nowhere at their initial values."""
    numbers = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: leaf + 0.3 * numbers.normal(size=leaf.shape).astype(np.float32), tree
    )


PARAMS = moved(init_encoder(KEYS[0], WIDTH, depth=2, heads=HEADS, expansion=2))
TOKENS = jax.random.normal(KEYS[1], (4, 5, WIDTH))
MASK = jnp.array([[1, 1, 1, 1, 1], [1, 0, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 1]], jnp.float32)


class Block(linen.Module):
    """As of flax's own example of a Vision Transformer."""

    @linen.compact
    def __call__(self, x, mask):
        attend = linen.MultiHeadDotProductAttention(HEADS, name="attention")
        x += attend(linen.LayerNorm(name="attention_norm")(x), mask=mask)
        y = linen.Dense(2 * WIDTH, name="hidden")(linen.LayerNorm(name="mlp_norm")(x))
        return x + linen.Dense(WIDTH, name="output")(linen.gelu(y))


class Encoder(linen.Module):
    @linen.compact
    def __call__(self, x, mask):
        for i in range(2):
            x = Block(name=f"block{i}")(x, mask)
        return linen.LayerNorm(name="norm")(x)


def as_flax(params):
    """The same numbers, laid out as flax has them."""

    def norm(layer):
        return {"scale": layer["scale"], "bias": layer["offset"]}

    def split(name, layer):
        if name == "output":
            return "out", layer
        return name, layer | {"bias": layer["bias"].reshape(HEADS, -1)}

    blocks = {
        name: {
            "attention_norm": norm(block["attention_norm"]),
            "attention": dict(split(*item) for item in block["attention"].items()),
            "mlp_norm": norm(block["mlp_norm"]),
            **block["mlp"],
        }
        for name, block in params.items()
        if name != "norm"
    }
    return {"params": blocks | {"norm": norm(params["norm"])}}


@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
def test_an_encoder_is_that_of_flax(mask):
    ours = jax.jit(lambda p: encode_tokens(p, TOKENS, mask))(PARAMS)
    pairs = None if mask is None else jnp.broadcast_to(mask[:, None, None] > 0, (4, 1, 5, 5))
    with jax.numpy_rank_promotion("allow"):
        theirs = jax.jit(lambda v: Encoder().apply(v, TOKENS, pairs))(as_flax(PARAMS))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_masked_tokens_change_nothing():
    encode = jax.jit(encode_tokens)
    changed = jnp.where(MASK[..., None] > 0, TOKENS, 100 * TOKENS[::-1])
    one, other = (encode(PARAMS, tokens, MASK) for tokens in (TOKENS, changed))
    np.testing.assert_array_equal(one[MASK > 0], other[MASK > 0])
    left = np.array([0, 2])
    np.testing.assert_allclose(one[1:2, left], encode(PARAMS, TOKENS[1:2, left], None), atol=1e-5)
    # Where all are masked there is nothing to see, and still nothing but numbers.
    nothing = jax.jit(jax.grad(lambda p: jnp.sum(encode(p, TOKENS, jnp.zeros((4, 5))))))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(nothing(PARAMS)))


def test_layer_norm_is_of_each_vector_and_in_many_bits():
    x = 3 + 100 * jax.random.normal(KEYS[2], (2, 3, 64))
    scale, offset = jnp.linspace(1, 2, 64), jnp.linspace(-1, 1, 64)
    normal = (x - np.mean(x, axis=-1, keepdims=True)) / np.std(x, axis=-1, keepdims=True)
    expected = np.asarray(normal) * np.asarray(scale) + np.asarray(offset)
    np.testing.assert_allclose(layer_norm(x, scale, offset), expected, atol=1e-5)
    narrow = layer_norm(*(v.astype(jnp.bfloat16) for v in (x, scale, offset)))
    assert narrow.dtype == jnp.bfloat16
    np.testing.assert_allclose(narrow.astype(jnp.float32), expected, atol=0.1)


def test_patches_are_cut_row_by_row_and_put_together_again():
    images = jax.random.normal(KEYS[0], (2, 6, 8, 3))
    patches = patchify(images, 2)
    assert patches.shape == (2, 12, 12)
    np.testing.assert_array_equal(patches[1, 5], images[1, 2:4, 2:4].ravel())
    np.testing.assert_array_equal(unpatchify(patches, 2, 6, 8), images)


def test_positions_are_those_of_mae():
    rows, columns, width = 2, 3, 8
    expected = [
        [
            wave(place * 10000.0 ** -(k / 2))
            for place in (j, i)
            for wave in (np.sin, np.cos)
            for k in range(2)
        ]
        for i in range(rows)
        for j in range(columns)
    ]
    np.testing.assert_allclose(position_embeddings(rows, columns, width), expected, atol=1e-6)


def made(outputs=3):
    model = vit(outputs, width=WIDTH, depth=1, heads=HEADS, expansion=2)
    x = jax.random.normal(KEYS[2], (4, 8, 12, 3))
    params, state = model.init(KEYS[3], x)
    return model, moved(params), state, x


def test_vit_is_its_parts_and_takes_a_part_of_the_tokens():
    model, params, state, x = made()

    @jax.jit
    def parts(params):
        tokens = embed_patches(params["patches"], x, 4)
        last = encode_tokens(params["encoder"], tokens)
        return model.apply(params, state, x)[0], tokens, jnp.mean(last, axis=1)

    outputs, tokens, features = parts(params)
    kernel, bias = params["patches"]["kernel"].reshape(4, 4, 3, -1), params["patches"]["bias"]
    strided = jax.lax.conv_general_dilated(
        x, kernel, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    strided += bias[None, None, None] + position_embeddings(2, 3, WIDTH).reshape(1, 2, 3, WIDTH)
    np.testing.assert_allclose(tokens, strided.reshape(4, 6, WIDTH), atol=1e-5)
    expected = features @ params["head"]["kernel"] + params["head"]["bias"][None]
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    kept = jax.eval_shape(lambda p: encode_tokens(p, tokens[:, 3:]), params["encoder"])
    assert kept.shape == (4, 3, WIDTH)


def test_vit_has_the_parameters_that_it_should():
    x = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    model, width = vit(), 192
    params, state = jax.eval_shape(model.init, KEYS[0], x)
    block = 4 * (width + 1) * width + (width + 1) * 4 * width + (4 * width + 1) * width + 4 * width
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == (
        (4 * 4 * 3 + 1) * width + 6 * block + 2 * width
    )
    assert jax.eval_shape(model.apply, params, state, x)[0].shape == (2, width)
    maps = vit(flatten=False)
    assert jax.eval_shape(maps.apply, params, state, x)[0].shape == (2, 8, 8, width)


def test_each_task_differentiates_through_a_step_of_its_own():
    """Side by side, against finite differences of one task at a time."""
    model, params, state, x = made()

    def loss(params, x):
        return jnp.mean(model.apply(params, state, x)[0] ** 2)

    def after_a_step(params, x):
        gradient = jax.grad(loss)(params, x)
        return loss(jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient), x[::-1])

    with jax.enable_x64(True):
        params, x = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (params, x))
        numbers = np.random.default_rng(1)
        direction = jax.tree.map(lambda leaf: jnp.asarray(numbers.normal(size=leaf.shape)), params)
        tasks = [(params, x), (jax.tree.map(lambda leaf: 0.9 * leaf, params), -x)]
        side_by_side = jax.tree.map(lambda *leaves: jnp.stack(leaves), *tasks)
        gradients = jax.jit(jax.vmap(jax.grad(after_a_step)))(*side_by_side)
        value = jax.jit(after_a_step)
        for i, (params, x) in enumerate(tasks):
            ahead, behind = (
                value(jax.tree.map(lambda p, d: p + step * d, params, direction), x)  # noqa: B023
                for step in (1e-6, -1e-6)
            )
            along = jax.tree.map(lambda g, d: jnp.sum(g[i] * d), gradients, direction)  # noqa: B023
            np.testing.assert_allclose(
                sum(jax.tree.leaves(along)), (ahead - behind) / 2e-6, rtol=1e-5
            )


def test_it_computes_in_fewer_bits():
    model, params, state, x = made()
    wide, _ = jax.jit(model.apply)(params, state, x)

    def loss(params):
        outputs, _ = mixed_precision(model).apply(params, state, x)
        return jnp.sum(outputs**2), outputs

    (_, narrow), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype("float32")}
    assert 0 < np.abs(narrow - wide).max() < 0.05 * np.abs(wide).max()


def test_examples_are_answered_one_by_one():
    """So padding changes nothing, and neither mask nor statistics do."""
    model, params, state, x = made()
    apply = jax.jit(model.apply, static_argnums=5)
    together, used = apply(params, state, x, jnp.array([1.0, 0.0, 1.0, 1.0]), None, False)
    alone, _ = apply(params, state, x[2:3])
    np.testing.assert_allclose(together[2:3], alone, atol=1e-5)
    assert used == state == {}


def test_what_cannot_be_is_refused():
    for make, words in (
        (lambda: vit(width=10, heads=5), "width is 10: give a multiple of 4"),
        (lambda: vit(width=8), "width is 8: give a multiple of 3, the number of heads"),
        (lambda: vit(depth=0), "depth is 0"),
        (lambda: vit(3, flatten=False), "flatten is False: a head takes features"),
        (lambda: vit().init(KEYS[0], jnp.ones((1, 32, 30, 3))), "32 x 30 pixels are not filled"),
        (lambda: unpatchify(jnp.ones((1, 3, 12)), 2, 4, 4), "pixels have 4 patches of 4 pixels"),
        (lambda: init_encoder(KEYS[0], 8, depth=1, heads=5), "give a multiple of 5"),
        (lambda: attention(PARAMS["block0"]["attention"], TOKENS[..., 1:]), "11"),
    ):
        with pytest.raises(ValueError, match=words):
            make()
