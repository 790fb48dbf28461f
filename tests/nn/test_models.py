"""Models: shapes as the papers have them, and flax modules as faithful as they were."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from jaxmeta.nn import conv4, from_functions, from_linen, from_nnx, mlp

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("downsample", "size", "features"), [("pool", 28, 64), ("stride", 28, 64), ("pool", 84, 1600)]
)
def test_conv4_has_the_features_of_the_papers(downsample, size, features):
    model = conv4(downsample=downsample)
    x = jax.ShapeDtypeStruct((2, size, size, 1), jnp.float32)
    params, state = jax.eval_shape(model.init, KEY, x)
    outputs, used = jax.eval_shape(model.apply, params, state, x)
    assert outputs.shape == (2, features)
    assert jax.tree.structure(used) == jax.tree.structure(state)


def test_conv4_answers_with_its_own_statistics_or_the_given_ones():
    model = conv4(3, filters=4)
    x = jax.random.normal(KEY, (4, 16, 16, 1))
    params, state = model.init(KEY, x)
    apply = jax.jit(model.apply, static_argnums=5)
    by_batch, used = apply(params, state, x)
    by_used, unchanged = apply(params, used, x, None, None, False)
    by_state, _ = apply(params, state, x, None, None, False)
    np.testing.assert_allclose(by_batch, by_used, atol=1e-5)
    assert np.abs(by_batch - by_state).max() > 1e-2
    jax.tree.map(np.testing.assert_array_equal, unchanged, used)


def test_conv4_refuses_an_unknown_downsampling():
    with pytest.raises(ValueError, match="'pool' or 'stride'"):
        conv4(downsample="average")


def test_conv4_refuses_images_too_small_to_halve_four_times():
    with pytest.raises(ValueError, match="8 x 8 pixels are too small"):
        conv4(filters=4).init(KEY, jnp.ones((2, 8, 8, 1)))


def test_mlp_is_affine_maps_and_relus():
    model = mlp(2, (5,))
    x = jax.random.normal(KEY, (3, 4))
    params, state = model.init(KEY, x)
    first, head = params["layer0"], params["head"]
    answers, _ = model.apply(params, state, x)
    x, first, head = jax.tree.map(np.asarray, (x, first, head))
    hidden = np.maximum(x @ first["kernel"] + first["bias"], 0)
    np.testing.assert_allclose(answers, hidden @ head["kernel"] + head["bias"], rtol=1e-5)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float64", "bfloat16"])
def test_mlp_takes_examples_of_any_type(dtype):
    model = mlp(2, (5,))
    x = np.arange(12).reshape(3, 4)
    params, state = model.init(KEY, x.astype(np.float32))
    with jax.numpy_dtype_promotion("standard"):
        answers, _ = model.apply(params, state, x.astype(jnp.dtype(dtype)))
    np.testing.assert_array_equal(answers, model.apply(params, state, x.astype(np.float32))[0])


def test_mlp_refuses_examples_of_another_size():
    params, state = mlp(2, (5,)).init(KEY, jnp.ones((3, 4)))
    with pytest.raises(ValueError, match="Examples have 3 features but the layer takes 4"):
        mlp(2, (5,)).apply(params, state, jnp.ones((2, 3)))


class Linen(linen.Module):
    """As a user would write it."""

    @linen.compact
    def __call__(self, x, train: bool):
        x = linen.BatchNorm(use_running_average=not train)(linen.Dense(4)(x))
        return linen.Dense(2)(linen.Dropout(0.5, deterministic=not train)(x))


class Plain(linen.Module):
    """Without a ``train`` argument, which the adapter does not need."""

    @linen.compact
    def __call__(self, x):
        x = linen.BatchNorm()(linen.Dense(4)(x))
        return linen.Dense(2)(linen.Dropout(0.5)(x))


class Nnx(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.first = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.last = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        return self.last(self.dropout(self.norm(self.first(x))))


X = jax.random.normal(jax.random.key(1), (6, 3))


MODULES = {
    "linen": lambda: from_linen(Linen()),
    "linen_without_train": lambda: from_linen(Plain()),
    "nnx": lambda: from_nnx(Nnx),
}


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
class TestFlaxAdapters:
    def test_statistics_are_those_of_the_batch_and_serve_again(self, make):
        model = make()
        params, state = model.init(KEY, X)
        answers, used = model.apply(params, state, X)
        (mean,) = [
            leaf
            for path, leaf in jax.tree_util.tree_leaves_with_path(used)
            if "mean" in jax.tree_util.keystr(path)
        ]
        name = "Dense_0" if "Dense_0" in params else "first"
        first = X @ params[name]["kernel"] + params[name]["bias"][None]
        np.testing.assert_allclose(mean, np.mean(first, axis=0), atol=1e-5)
        again, unchanged = model.apply(params, used, X, None, None, False)
        np.testing.assert_allclose(answers, again, atol=1e-4)
        jax.tree.map(np.testing.assert_array_equal, unchanged, used)

    def test_masked_examples_take_no_part(self, make):
        model = make()
        params, state = model.init(KEY, X)
        mask = jnp.array([1.0, 1.0, 0.0, 1.0, 0.0, 1.0])
        kept = np.array([0, 1, 3, 5])
        masked, _ = model.apply(params, state, X, mask)
        alone, _ = model.apply(params, state, X[kept])
        np.testing.assert_allclose(masked[kept], alone, atol=1e-4)

    def test_dropout_is_on_with_a_key_and_off_without(self, make):
        model = make()
        params, state = model.init(KEY, X)
        quiet = [model.apply(params, state, X)[0] for _ in range(2)]
        noisy = [model.apply(params, state, X, None, jax.random.key(i))[0] for i in (1, 1, 2)]
        np.testing.assert_array_equal(*quiet)
        np.testing.assert_array_equal(noisy[0], noisy[1])
        assert np.abs(noisy[0] - noisy[2]).max() > 1e-3
        assert np.abs(noisy[0] - quiet[0]).max() > 1e-3

    def test_differentiates_under_jit_and_vmap(self, make):
        model = make()
        params, state = model.init(KEY, X)

        @jax.jit
        def gradients(xs):
            return jax.vmap(
                lambda x: jax.grad(lambda p: jnp.sum(model.apply(p, state, x)[0] ** 2))(params)
            )(xs)

        together = gradients(jnp.stack([X, 2 * X]))
        alone = gradients((2 * X)[None])
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a[1], b[0], rtol=1e-3, atol=1e-4),
            together,
            alone,
        )


def test_an_nnx_module_with_other_variables_is_refused():
    class Counting(Nnx):
        def __init__(self, rngs):
            super().__init__(rngs)
            self.calls = nnx.Variable(jnp.zeros(()))

    with pytest.raises(ValueError, match="variables of the kind Variable"):
        from_nnx(Counting)


def test_two_functions_make_a_model():
    model = from_functions(lambda key, x: {"w": jnp.ones((3, 1))}, lambda p, x: x @ p["w"])
    params, state = model.init(KEY, X)
    np.testing.assert_allclose(model.apply(params, state, X)[0][:, 0], X.sum(axis=1), rtol=1e-5)
