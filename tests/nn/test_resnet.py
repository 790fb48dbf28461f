"""Residual networks, against flax, published sizes, and each other's order of differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from jaxmeta.nn import mixed_precision, resnet12, resnet18
from jaxmeta.nn.resnet import _Block, _residual_network

KEYS = jax.random.split(jax.random.key(0), 4)
NETWORKS = {
    "resnet12": lambda outputs=None: resnet12(outputs, filters=(4, 4, 8, 8)),
    "resnet18": lambda outputs=None: resnet18(outputs, filters=(4, 4, 8, 8)),
}
# Of every kind of block one, which compiles sooner.
SHORT = {
    "pooled": lambda outputs: _residual_network(
        None, [_Block(2, 4, 1, True)], True, jax.nn.leaky_relu, outputs, True
    ),
    "strided": lambda outputs: _residual_network(
        4, [_Block(1, 4, 1, False), _Block(1, 6, 2, True)], False, jax.nn.relu, outputs, True
    ),
}
# One process compiles for all.
pytestmark = pytest.mark.xdist_group("resnet")


def made(name, outputs=3, n=5):
    """A network with parameters and a state that are nowhere at their initial values."""
    model, x = (NETWORKS | SHORT)[name](outputs), jax.random.normal(KEYS[0], (n, 16, 16, 3))
    params, state = model.init(KEYS[1], x)
    numbers = np.random.default_rng(0)

    def moved(leaf, positive):
        noise = numbers.normal(size=leaf.shape).astype(np.float32)
        return leaf * np.exp(0.2 * noise) if positive else leaf + 0.2 * noise

    return (
        model,
        jax.tree.map(lambda leaf: moved(leaf, False), params),
        (jax.tree.map(lambda leaf: moved(leaf, True), state)),
        x,
    )


class Normalized(linen.Module):
    """A convolution with padding as of torch, then batch normalization."""

    filters: int
    window: int
    stride: int
    train: bool

    @linen.compact
    def __call__(self, x):
        x = linen.Conv(
            self.filters,
            (self.window, self.window),
            self.stride,
            padding=self.window // 2,
            use_bias=False,
        )(x)
        return linen.BatchNorm(
            use_running_average=not self.train, momentum=0.0, use_fast_variance=False
        )(x)


class ResNet12(linen.Module):
    """As learners of few shots have it: pooled after the activation."""

    filters: tuple
    train: bool

    @linen.compact
    def __call__(self, x):
        for i, filters in enumerate(self.filters):
            y = x
            for j in range(3):
                y = Normalized(filters, 3, 1, self.train, name=f"block{i}_conv{j}")(y)
                y = linen.leaky_relu(y, 0.1) if j < 2 else y
            y += Normalized(filters, 1, 1, self.train, name=f"block{i}_shortcut")(x)
            x = linen.max_pool(linen.leaky_relu(y, 0.1), (2, 2), (2, 2))
        return linen.Dense(3, name="head")(x.mean(axis=(1, 2)))


class ResNet18(linen.Module):
    """As torchvision has it, but for the first layer."""

    filters: tuple
    train: bool

    @linen.compact
    def __call__(self, x):
        x = linen.relu(Normalized(self.filters[0], 3, 1, self.train, name="stem")(x))
        for i in range(8):
            filters, stride = self.filters[i // 2], 2 if i in (2, 4, 6) else 1
            y = Normalized(filters, 3, stride, self.train, name=f"block{i}_conv0")(x)
            y = Normalized(filters, 3, 1, self.train, name=f"block{i}_conv1")(linen.relu(y))
            if stride == 2:
                x = Normalized(filters, 1, 2, self.train, name=f"block{i}_shortcut")(x)
            x = linen.relu(x + y)
        return linen.Dense(3, name="head")(x.mean(axis=(1, 2)))


def as_flax(params, state):
    """The same numbers, under the names that flax gives them."""
    variables = {"params": {}, "batch_stats": {}}

    def add(name, layer, statistics):
        variables["params"][name] = {
            "Conv_0": {"kernel": layer["kernel"]},
            "BatchNorm_0": {"scale": layer["scale"], "bias": layer["offset"]},
        }
        variables["batch_stats"][name] = {
            "BatchNorm_0": {"mean": statistics.mean, "var": statistics.variance}
        }

    for name, part in params.items():
        if name == "head":
            variables["params"]["head"] = part
        elif name == "stem":
            add(name, part, state[name])
        else:
            for inner, layer in part.items():
                add(f"{name}_{inner}", layer, state[name][inner])
    return variables


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("batch_statistics", [True, False])
def test_it_is_that_of_flax_which_sees_no_padding(name, batch_statistics):
    model, params, state, x = made(name)
    mask, kept = jnp.array([1.0, 0.0, 1.0, 1.0, 0.0]), np.array([0, 2, 3])
    apply = jax.jit(model.apply, static_argnums=5)
    answers, used = apply(params, state, x, mask, None, batch_statistics)
    module = {"resnet12": ResNet12, "resnet18": ResNet18}[name]((4, 4, 8, 8), batch_statistics)
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        expected, changed = jax.jit(lambda v: module.apply(v, x[kept], mutable=["batch_stats"]))(
            as_flax(params, state)
        )
    np.testing.assert_allclose(answers[kept], expected, atol=1e-4)
    assert_close(as_flax(params, used)["batch_stats"], changed["batch_stats"], 1e-4)
    assert jax.tree.structure(used) == jax.tree.structure(state)
    if not batch_statistics:
        jax.tree.map(np.testing.assert_array_equal, used, state)


def assert_close(ours, theirs, atol):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), ours, theirs)


def count_of_blocks(sizes):
    """Of convolutions (window, inputs, filters) without bias, with scale and offset."""
    return sum(
        window * window * inputs * filters + 2 * filters for window, inputs, filters in sizes
    )


def test_resnet12_has_the_12_4_million_parameters_of_the_papers():
    sizes = []
    for inputs, filters in zip((3, 64, 160, 320), (64, 160, 320, 640), strict=True):
        sizes += [(3, inputs, filters), (3, filters, filters), (3, filters, filters)]
        sizes += [(1, inputs, filters)]
    assert parameters_and_features(resnet12(), 84) == (count_of_blocks(sizes), 640)
    assert count_of_blocks(sizes) == 12_424_320


def test_resnet18_has_the_11_17_million_parameters_of_torchvision():
    """11,689,512 with a head of 1000 classes and a first layer of 7x7."""
    features, shape = 512, parameters_and_features(resnet18(), 32)
    assert shape == (11_689_512 - 1000 * (features + 1) - (49 - 9) * 3 * 64, features)
    assert shape[0] == 11_168_832


def parameters_and_features(model, size):
    x = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    params, state = jax.eval_shape(model.init, KEYS[0], x)
    outputs, _ = jax.eval_shape(model.apply, params, state, x)
    return sum(leaf.size for leaf in jax.tree.leaves(params)), outputs.shape[1]


@pytest.mark.parametrize(
    "name", [*SHORT, *(pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS)]
)
def test_each_task_differentiates_through_a_step_of_its_own(name):
    """Side by side, against finite differences of one task at a time."""
    model, params, state, x = made(name, n=4)
    mask = jnp.array([1.0, 1.0, 1.0, 0.0])

    def loss(params, x):
        return jnp.mean(model.apply(params, state, x, mask)[0][:3] ** 2)

    def after_a_step(params, x):
        gradient = jax.grad(loss)(params, x)
        return loss(jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient), x[::-1])

    with jax.enable_x64(True):
        params, state, x, mask = jax.tree.map(
            lambda leaf: leaf.astype(jnp.float64), (params, state, x, mask)
        )
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


@pytest.mark.parametrize("name", NETWORKS)
def test_it_computes_in_fewer_bits(name):
    model, params, state, x = made(name)
    narrow = mixed_precision(model)

    def loss(params):
        outputs, used = narrow.apply(params, state, x, jnp.ones(5))
        return jnp.sum(outputs**2), used

    of_all = jax.eval_shape(jax.value_and_grad(loss, has_aux=True), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(of_all)} == {jnp.dtype("float32")}
    program = str(jax.make_jaxpr(loss)(params)).splitlines()
    convolutions = [line for line in program if "convolution_map" in line]
    assert len(convolutions) > 16
    assert all("bf16" in line for line in convolutions)


def test_maps_average_to_features():
    for network in (resnet12, resnet18):
        x = jax.ShapeDtypeStruct((2, 84, 84, 3), jnp.float32)
        model = network(filters=4, flatten=False)
        params, state = jax.eval_shape(model.init, KEYS[0], x)
        maps, _ = jax.eval_shape(model.apply, params, state, x)
        assert maps.shape == {resnet12: (2, 5, 5, 4), resnet18: (2, 11, 11, 4)}[network]


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="8 x 16 pixels are too small to be halved 4 times"):
        resnet12(filters=4).init(KEYS[0], jnp.ones((2, 8, 16, 3)))
    with pytest.raises(ValueError, match="give one number, or four"):
        resnet18(filters=(4, 4))
    with pytest.raises(ValueError, match="flatten is False: a head takes features"):
        resnet12(5, flatten=False)
    with pytest.raises(ValueError, match="outputs is 0"):
        resnet18(0)
