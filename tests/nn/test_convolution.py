"""The convolution against that of lax, its two lowerings against each other, and vmap by loops."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from jaxmeta.nn import blocks, conv2d, conv_general_dilated, convolution, mlp, patches, winograd
from jaxmeta.nn.geometry import Geometry

KEYS = jax.random.split(jax.random.key(0), 4)

# Compiling is nearly all that these tests cost, and they run each program once or twice.
compiled = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def reference(x, kernel, stride=1, padding="SAME"):
    strides = (stride, stride) if isinstance(stride, int) else stride
    return jax.lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def operands(window, size, channels, outputs=4, lead=(), n=2):
    """Of a scale at which the outputs, whose sine is taken below, are about one."""
    x = jax.random.normal(KEYS[0], (*lead, n, *size, channels))
    kernel = jax.random.normal(KEYS[1], (*lead, *window, channels, outputs))
    return x, kernel / np.sqrt(window[0] * window[1] * channels).astype(np.float32)


def all_orders(function):
    """Values, first derivatives, and second ones both ways, as one function."""

    def loss(x, kernel):
        return jnp.sum(jnp.sin(function(x, kernel)))

    gradient = jax.grad(loss, (0, 1))

    def of_gradient(x, kernel):
        return sum(jnp.sum(jnp.sin(part)) for part in gradient(x, kernel))

    def everything(x, kernel):
        directions = jnp.cos(3 * x), jnp.cos(2 * kernel)
        return {
            "value": function(x, kernel),
            "forward": jax.jvp(function, (x, kernel), directions)[1],
            "reverse": gradient(x, kernel),
            "forward over reverse": jax.jvp(gradient, (x, kernel), directions)[1],
            "reverse over reverse": jax.grad(of_gradient, (0, 1))(x, kernel),
        }

    return everything


def assert_close(ours, theirs, rounding=1e-5):
    """Equal to rounding, which a sum makes on the scale of its largest terms."""

    def check(path, a, b):
        a, b = (np.asarray(x, np.float64) for x in (a, b))
        assert a.shape == b.shape
        error, scale = (np.abs(x).max(initial=0) for x in (a - b, b))
        assert error <= rounding * max(scale, 1), f"{jax.tree_util.keystr(path)}: {error}"

    jax.tree_util.tree_map_with_path(check, ours, theirs)


# Between them: every kernel with every kind of padding and stride, odd and even images, images
# smaller than the window, and 3x3 kernels of stride 1 with channels enough for Winograd's algorithm
# (16) and too few for it.
CASES = [
    ((1, 1), 1, "SAME", (4, 5), 3),
    ((1, 1), 2, "VALID", (5, 4), 17),
    ((2, 2), 2, "SAME", (5, 5), 3),
    ((2, 2), 1, ((0, 1), (2, 0)), (4, 5), 3),
    ((3, 3), 1, "SAME", (5, 4), 3),
    ((3, 3), 1, "SAME", (2, 1), 16),
    ((3, 3), 1, "VALID", (4, 5), 17),
    ((3, 3), 1, ((0, 2), (3, 1)), (8, 9), 16),
    ((3, 3), (1, 2), "SAME", (5, 6), 16),
    ((5, 5), 2, ((1, 3), (2, 3)), (3, 4), 2),
    ((3, 1), (1, 2), "VALID", (5, 4), 3),
]


@pytest.mark.parametrize(("window", "stride", "padding", "size", "channels"), CASES)
def test_convolution_equals_that_of_lax_in_derivatives_of_any_order(
    window, stride, padding, size, channels
):
    arguments = operands(window, size, channels)
    ours, theirs = (
        compiled(all_orders(partial(function, stride=stride, padding=padding)))(*arguments)
        for function in (conv2d, reference)
    )
    assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("size", "padding"),
    [
        ((5, 4), ((1, 1), (1, 1))),
        # Beyond the window: the adjoint takes rows away where others add them.
        ((5, 6), ((4, 0), (0, 3))),
    ],
)
def test_maps_by_winograd_are_those_by_patches(size, padding):
    geometry = Geometry(size, (3, 3), (1, 1), padding)
    shapes = {
        "x": (3, 2, *size, 5),
        "kernel": (3, 3, 3, 5, 4),
        "z": (3, 2, *geometry.output, 4),
    }
    x, kernel, z = (
        jax.random.normal(key, shape) for key, shape in zip(KEYS, shapes.values(), strict=False)
    )
    pairs = {"output": (x, kernel), "input": (kernel, z), "kernel": (x, z)}

    @partial(compiled, static_argnums=0)
    def maps(module):
        return {gives: module.MAPS[gives](*pair, geometry) for gives, pair in pairs.items()}

    by_winograd, by_patches = maps(winograd), maps(patches)
    assert_close(by_winograd, by_patches)
    # The three of them are adjoint: one number, met three times.
    numbers = [
        jnp.vdot(by_patches[gives], operand)
        for gives, operand in (("output", z), ("input", x), ("kernel", kernel))
    ]
    np.testing.assert_allclose(numbers, numbers[0], rtol=1e-4)


@pytest.mark.parametrize(("groups", "n", "most"), [(1, 12, 4), (1, 7, 3), (5, 2, 4), (3, 7, 2)])
@pytest.mark.parametrize("maps", [patches, winograd])
def test_in_blocks_a_map_is_the_same(monkeypatch, maps, groups, n, most):
    """Cut with a remainder and without, of images, of groups and of both."""
    geometry = Geometry((5, 4), (3, 3), (1, 1), ((1, 1), (1, 1)))
    image_bytes = 4 * maps.laid_out(geometry, 5, 6)
    monkeypatch.setattr(blocks, "BLOCK", most * image_bytes)
    monkeypatch.setattr(blocks, "WHOLE", most * image_bytes)
    x, kernel, z = (
        jax.random.normal(key, shape)
        for key, shape in zip(
            KEYS, [(groups, n, 5, 4, 5), (groups, 3, 3, 5, 6), (groups, n, 5, 4, 6)], strict=False
        )
    )
    for gives, pair in {"output": (x, kernel), "input": (kernel, z), "kernel": (x, z)}.items():
        sizes = []

        def apply(a, b, gives=gives, sizes=sizes):
            sizes.append(math.prod((b if gives == "input" else a).shape[:2]))
            return maps.MAPS[gives](a, b, geometry)

        cut = blocks.in_blocks(apply, *pair, gives, image_bytes, 1)
        assert set(sizes) <= set(range(1, most + 1))
        assert_close(cut, maps.MAPS[gives](*pair, geometry))


@pytest.mark.parametrize(
    ("window", "outputs", "cut"), [(3, 64, True), (3, 1024, False), (1, 64, False)]
)
def test_what_does_not_gain_is_not_cut(window, outputs, cut):
    """A kernel of 2 MiB is not read for each of a few blocks; single pixels lay nothing out."""
    x, kernel = jnp.ones((250, 4, 4, 64)), jnp.ones((window, window, 64, outputs))
    assert ("stablehlo.while" in jax.jit(conv2d).lower(x, kernel).as_text()) == cut


def test_many_images_are_computed_in_blocks():
    """As few would be, in every order, under vmap and compiled."""
    x, kernel = operands((3, 3), (8, 9), 16, lead=(2,), n=3)
    many = jnp.tile(x, (1, 100, 1, 1, 1))
    gradient = jax.vmap(jax.grad(lambda x, k: jnp.sum(jnp.sin(conv2d(x, k))), (0, 1)))
    of_many, of_few = jax.jit(gradient)(many, kernel), jax.jit(gradient)(x, kernel)
    assert "stablehlo.while" in jax.jit(gradient).lower(many, kernel).as_text()
    assert "stablehlo.while" not in jax.jit(gradient).lower(x, kernel).as_text()
    assert_close(of_many, (jnp.tile(of_few[0], (1, 100, 1, 1, 1)), 100 * of_few[1]))


def test_kernel_gradient_is_the_same_with_few_outputs_or_many():
    """The matrices are laid out by which is the smaller; outputs on both sides of the choice."""
    geometry = Geometry((4, 5), (2, 1), (2, 1), ((0, 1), (1, 0)))
    x = jax.random.normal(KEYS[0], (2, 3, 4, 5, 2))
    z = jax.random.normal(KEYS[1], (2, 3, *geometry.output, 6))
    many = patches.kernel_gradient(x, z, geometry)
    few = [patches.kernel_gradient(x, z[..., i : i + 1], geometry) for i in range(6)]
    assert_close(many, jnp.concatenate(few, -1))


ONE = compiled(all_orders(conv2d))


@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0), (1, 3)])
def test_vmap_is_a_loop(axes):
    x, kernel = operands((3, 3), (4, 5), 3, lead=(3,))
    arguments = tuple(
        a[0] if axis is None else jnp.moveaxis(a, 0, axis)
        for a, axis in zip((x, kernel), axes, strict=True)
    )
    together = compiled(jax.vmap(all_orders(conv2d), axes))(*arguments)
    own = [0 if axis is None else 1 for axis in axes]
    alone = [ONE(x[i * own[0]], kernel[i * own[1]]) for i in range(3)]
    assert_close(together, jax.tree.map(lambda *rows: jnp.stack(rows), *alone))


SHARED = {
    "1x1": Geometry((2, 3), (1, 1), (1, 1), ((0, 0), (0, 0))),
    "3x3 with stride": Geometry((5, 4), (3, 3), (2, 1), ((1, 0), (0, 2))),
    "3x3 by Winograd": Geometry((8, 9), (3, 3), (1, 1), ((1, 1), (1, 1))),
}


@pytest.mark.parametrize(
    ("gives", "mapped"), [("output", 0), ("input", 1), ("kernel", 0), ("kernel", 1)]
)
@pytest.mark.parametrize("geometry", SHARED.values(), ids=SHARED)
def test_what_tasks_share_is_used_as_by_a_loop(geometry, gives, mapped):
    """Each map, in every order; the derivative by the shared operand is a sum over tasks."""
    size, channels = 2, 16 if geometry.window == (3, 3) and geometry.stride == (1, 1) else 3
    shapes = {
        "x": (1, 2, *geometry.image, channels),
        "k": (1, *geometry.window, channels, 4),
        "z": (1, 2, *geometry.output, 4),
    }
    a, b = (shapes[name] for name in {"output": "xk", "input": "kz", "kernel": "xz"}[gives])
    pair = [
        0.2 * jax.random.normal(key, (size, *shape) if i == mapped else shape)
        for i, (key, shape) in enumerate(zip(KEYS, (a, b), strict=False))
    ]
    axes = [0 if i == mapped else None for i in range(2)]

    def one(a, b):
        return convolution._map(a, b, gives, geometry)

    def looped(a, b):
        return jnp.stack([one(a[i], b) if mapped == 0 else one(a, b[i]) for i in range(size)])

    together = compiled(all_orders(jax.vmap(one, axes)))(*pair)
    assert_close(together, compiled(all_orders(looped))(*pair))


def shared_loss(apply):
    """Of parameters that all tasks share."""

    def loss(params, xs):
        return jnp.sum(jax.vmap(lambda x: jnp.sum(jnp.sin(apply(params, x))))(xs))

    return loss


@pytest.mark.parametrize("tasks", [8, 32])
def test_a_kernel_that_tasks_share_is_not_copied_for_each(tasks):
    """The gradient of a perceptron takes the temporary memory of plain products."""
    model = mlp(8, (256, 256))
    xs = jax.random.normal(KEYS[0], (tasks, 2, 128))
    params, _ = model.init(KEYS[1], xs[0])

    def plain(params, x):
        for name in ("layer0", "layer1"):
            x = jax.nn.relu(x @ params[name]["kernel"] + params[name]["bias"][None])
        return x @ params["head"]["kernel"] + params["head"]["bias"][None]

    def temporary(apply):
        program = jax.jit(jax.grad(shared_loss(apply))).lower(params, xs).compile()
        return program.memory_analysis().temp_size_in_bytes

    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    ours = temporary(lambda params, x: model.apply(params, {}, x)[0])
    assert ours <= temporary(plain) + 0.25 * size
    assert ours <= size


def test_a_shared_kernel_is_one_product_in_every_order():
    """The program of a derivative, of the first or the third order, holds no kernel of a task."""
    kernel, xs = jnp.ones((3, 3, 5, 7)), jnp.ones((11, 2, 6, 6, 5))
    gradient = jax.grad(shared_loss(lambda k, x: conv2d(x, k, 2)))

    def directional(kernel, xs):
        return jax.jvp(lambda k: gradient(k, xs), (kernel,), (kernel,))[1]

    program = jax.jit(jax.grad(lambda k, xs: jnp.sum(directional(k, xs)))).lower(kernel, xs)
    assert "tensor<11x3x3x5x7xf32>" not in program.as_text()


def test_vmap_of_vmap_is_a_loop_in_a_loop():
    """Models, each with kernels of its own, over tasks, each with images of its own."""
    x, kernel = operands((3, 3), (4, 5), 3, lead=(3,))
    kernel = kernel[:2]

    def gradient(x, kernel):
        return jax.grad(lambda x, k: jnp.sum(jnp.sin(conv2d(x, k, 2))), (0, 1))(x, kernel)

    over_tasks = jax.vmap(gradient, (0, None))
    together = compiled(jax.vmap(over_tasks, (None, 0)))(x, kernel)
    gradient = compiled(gradient)
    for model in range(2):
        for task in range(3):
            part = jax.tree.map(lambda g, i=model, j=task: g[i, j], together)
            assert_close(part, gradient(x[task], kernel[model]))


def test_linearized_and_transposed_it_is_its_derivative():
    x, kernel = operands((3, 3), (4, 5), 3)
    dx, dk = jnp.cos(x), jnp.cos(kernel)
    value, linear = jax.linearize(conv2d, x, kernel)
    assert_close(value, reference(x, kernel))
    assert_close(linear(dx, dk), reference(dx, kernel) + reference(x, dk))
    z = jnp.sin(value)
    for index, operand in enumerate((x, kernel)):
        (ours,), (theirs,) = (
            jax.linear_transpose(
                lambda a, f=f, i=index: f(a, kernel) if i == 0 else f(x, a), operand
            )(z)
            for f in (conv2d, reference)
        )
        assert_close(ours, theirs)


def test_compiled_or_not_it_is_the_same():
    x, kernel = operands((3, 3), (8, 9), 16)

    def gradient(x, kernel):
        return jax.grad(lambda x, k: jnp.sum(jnp.sin(conv2d(x, k))), (0, 1))(x, kernel)

    assert_close(gradient(x, kernel), jax.jit(gradient)(x, kernel))


@pytest.mark.parametrize("channels", [3, 16])
def test_types_are_kept_through_derivatives(channels):
    """Float64 to its own rounding; bfloat16 to that of float32, of the same numbers."""
    x, kernel = operands((3, 3), (8, 9), channels)
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (x, kernel))
    ours = compiled(all_orders(conv2d))(*half)
    assert {leaf.dtype for leaf in jax.tree.leaves(ours)} == {jnp.dtype(jnp.bfloat16)}
    single = jax.tree.map(lambda a: a.astype(jnp.float32), half)
    theirs = compiled(all_orders(reference))(*single)
    for order in ("value", "forward", "reverse"):
        assert_close(ours[order], theirs[order], rounding=3e-2)
    with jax.enable_x64(True):
        double = jax.tree.map(lambda a: jnp.asarray(np.asarray(a), jnp.float64), (x, kernel))
        ours, theirs = (compiled(all_orders(function))(*double) for function in (conv2d, reference))
        assert {leaf.dtype for leaf in jax.tree.leaves(ours)} == {jnp.dtype(jnp.float64)}
        assert_close(ours, theirs, rounding=1e-13)


def test_a_scan_of_convolutions_is_a_loop():
    """Gradient descent on a kernel, differentiated with respect to its start and the images."""
    x, kernel = operands((3, 3), (4, 4), 3)

    def step(kernel, x):
        return kernel - 0.01 * jax.grad(lambda k: jnp.sum(jnp.sin(conv2d(x, k))))(kernel)

    def scanned(x, kernel):
        kernel, _ = jax.lax.scan(lambda k, x: (step(k, x[None]), None), kernel, x)
        return jnp.sum(kernel**2)

    def looped(x, kernel):
        for row in x:
            kernel = step(kernel, row[None])
        return jnp.sum(kernel**2)

    ours, theirs = (compiled(jax.grad(f, (0, 1)))(x, kernel) for f in (scanned, looped))
    assert_close(ours, theirs)


@pytest.mark.parametrize("channels", [3, 16])
def test_convolution_under_vmap_is_a_product_of_matrices(channels):
    """In every order: XLA's own convolution is slow where each task has a kernel of its own."""
    x, kernel = jnp.ones((4, 2, 8, 8, channels)), jnp.ones((4, 3, 3, channels, 5))

    def program(convolution):
        return jax.jit(all_orders(jax.vmap(convolution))).lower(x, kernel).as_text()

    assert "stablehlo.convolution" in program(reference)
    ours = program(conv2d)
    assert "stablehlo.convolution" not in ours
    assert "stablehlo.dot_general" in ours


def test_convolution_refuses_channels_that_do_not_fit():
    with pytest.raises(ValueError, match="3 channels but the kernel takes 1"):
        conv2d(jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 1, 4)))
    with pytest.raises(ValueError, match=r"Images have shape \[8, 8, 3\] and the kernel"):
        conv2d(jnp.ones((8, 8, 3)), jnp.ones((3, 3, 3, 4)))


@pytest.mark.parametrize("stride", [0, (1, 0), (1, 2, 3), 1.5, "2"])
def test_a_stride_of_wrong_form_is_told(stride):
    with pytest.raises(ValueError, match=r"stride is .*: give a positive integer, or one for each"):
        conv2d(jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 4)), stride)


@pytest.mark.parametrize("padding", ["same?", 1, ((1, 1),), ((1, 1), 1), ((0.5, 1), (1, 1))])
def test_a_padding_of_wrong_form_is_told(padding):
    with pytest.raises(ValueError, match=r"padding is .*: give 'SAME', 'VALID', or "):
        conv2d(jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 4)), 1, padding)


# Those that conv2d does not do are handed to XLA and must not be done wrongly instead.
FLAX = {
    "plain": ((5, 6), {}),
    "stride and valid": ((5, 6), {"strides": 2, "padding": "VALID"}),
    "padding": ((5, 6), {"strides": (1, 2), "padding": ((0, 2), (1, 0))}),
    "circular": ((5, 6), {"padding": "CIRCULAR"}),
    "dilated": ((7, 6), {"kernel_dilation": 2}),
    "dilated input": ((5, 6), {"input_dilation": 2, "padding": 1}),
    "grouped": ((5, 6), {"feature_group_count": 2}),
    "one dimension": ((6,), {}),
    "three dimensions": ((3, 4, 3), {}),
}


@pytest.mark.parametrize(("size", "options"), FLAX.values(), ids=FLAX)
def test_flax_gives_with_it_what_it_gives_without(size, options):
    window = (3,) * len(size)
    x = jax.random.normal(KEYS[0], (2, *size, 4))
    ours = {"conv_general_dilated": conv_general_dilated}

    def linen_conv(own):
        module = linen.Conv(6, window, **options, **own)
        return module.init_with_output(KEYS[1], x)

    def nnx_conv(own):
        return nnx.Conv(4, 6, window, rngs=nnx.Rngs(0), **options, **own)(x)

    for convolve in (linen_conv, nnx_conv):
        assert_close(convolve(ours), convolve({}))


def test_flax_gradients_with_it_are_those_without():
    x = jax.random.normal(KEYS[0], (2, 5, 6, 4))
    ours, theirs = (
        linen.Conv(6, (3, 3), **own) for own in ({"conv_general_dilated": conv_general_dilated}, {})
    )
    params = theirs.init(KEYS[1], x)

    def gradient(module):
        return jax.jit(jax.grad(lambda p: jnp.sum(jnp.sin(module.apply(p, x)))))(params)

    program = jax.jit(ours.apply).lower(params, x).as_text()
    assert "stablehlo.convolution" not in program
    assert_close(gradient(ours), gradient(theirs))


def test_without_compilation_it_still_computes():
    x, kernel = operands((3, 3), (4, 5), 3)
    with jax.disable_jit():
        assert_close(conv2d(x, kernel), reference(x, kernel))
