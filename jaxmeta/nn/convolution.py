r"""A convolution that stays fast under ``vmap``, ``scan`` and any order of differentiation.

A convolution is bilinear: images x and a kernel k give z. Its two adjoints, which turn a z into
images or into a kernel, are bilinear as well,

.. math:: \langle z, \mathrm{output}(x, k) \rangle = \langle x, \mathrm{input}(k, z) \rangle
          = \langle k, \mathrm{kernel}(x, z) \rangle,

and a derivative of any of the three maps, forward or reverse, is again one of the three. One
primitive is thus closed under differentiation of any order, and its lowering alone decides how fast
all orders are. It is lowered to matrix products, never to XLA's convolution, which becomes a
grouped one when ``vmap`` gives every task its own kernel, with a gradient 10 to 20 times slower.
"""

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxmeta.distributed.varying import varying_alike
from jaxmeta.nn import patches, winograd
from jaxmeta.nn.blocks import in_blocks
from jaxmeta.nn.geometry import Geometry, Pair
from jaxmeta.types import Array

Padding = str | Sequence[tuple[int, int]]


def conv2d(
    x: Array, kernel: Array, stride: int | Sequence[int] = 1, padding: Padding = "SAME"
) -> Array:
    r"""Convolution in two dimensions.

    .. math:: z_{nijo} = \sum_{abc} x_{n,\,si+a-p,\,sj+b-q,\,c}\; k_{abco}

    Args:
      x: images ``[n, height, width, channels]``.
      kernel: ``[rows, columns, channels, outputs]``.
      stride: s, step between outputs in pixels: one number, or one for each direction.
      padding: ``"SAME"``, ``"VALID"``, or the zeros before and after, for each direction.

    Returns:
      ``[n, rows of outputs, columns of outputs, outputs]``.

    Raises:
      ValueError: an argument is not of this form, or image and kernel differ in channels or in
        type.

    >>> conv2d(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 5)), padding="VALID")[0, 0, 0, 0].item()
    18.0
    """
    if x.ndim != 4 or kernel.ndim != 4:
        raise ValueError(
            f"Images have shape {list(x.shape)} and the kernel {list(kernel.shape)}: give "
            "[n, height, width, channels] and [rows, columns, channels, outputs]."
        )
    if x.dtype != kernel.dtype:
        raise ValueError(
            f"Images are of type {x.dtype} but the kernel is of type {kernel.dtype}: convert one."
        )
    if x.shape[-1] != kernel.shape[2]:
        raise ValueError(
            f"Images have {x.shape[-1]} channels but the kernel takes {kernel.shape[2]}: give "
            "images like those that the model was made for."
        )
    image, window = (x.shape[1], x.shape[2]), (kernel.shape[0], kernel.shape[1])
    geometry = Geometry(image, window, *_steps_and_zeros(image, window, stride, padding))
    if 0 in (x.size, kernel.size, *geometry.output):
        return jnp.zeros((x.shape[0], *geometry.output, kernel.shape[3]), x.dtype)
    return _map(x[None], kernel[None], "output", geometry)[0]


def _steps_and_zeros(
    image: Pair, window: Pair, stride: int | Sequence[int], padding: Padding
) -> tuple[Pair, tuple[Pair, Pair]]:
    """Stride and padding as numbers for each direction; raises ``ValueError``."""
    try:
        down, right = stride if isinstance(stride, Sequence) else (stride, stride)
        strides = (operator.index(down), operator.index(right))
        if min(strides) < 1:
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(
            f"stride is {stride!r}: give a positive integer, or one for each direction."
        ) from None
    try:
        if isinstance(padding, str):
            padding = jax.lax.padtype_to_pads(image, window, strides, padding)
        (top, bottom), (left, right) = padding
        zeros = [operator.index(number) for number in (top, bottom, left, right)]
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"padding is {padding!r}: give 'SAME', 'VALID', or ((top, bottom), (left, right))."
        ) from None
    return strides, ((zeros[0], zeros[1]), (zeros[2], zeros[3]))


def conv_general_dilated(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: Padding,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    **others: Any,
) -> Array:
    """``lax.conv_general_dilated``, by :func:`conv2d` where possible.

    For flax: ``linen.Conv(64, (3, 3), conv_general_dilated=jaxmeta.nn.conv_general_dilated)``, and
    the same argument of ``nnx.Conv``. Convolutions that are dilated, grouped, not two-dimensional,
    not in flax's layout, or of a given precision are left to XLA.

    >>> from flax import linen
    >>> layer = linen.Conv(8, (3, 3), conv_general_dilated=conv_general_dilated)
    """
    dense = all(step == 1 for step in (*(lhs_dilation or ()), *(rhs_dilation or ())))
    plain = all(value in (None, 1) for value in (feature_group_count, *others.values()))
    if lhs.ndim == 4 and dense and plain and lhs.dtype == rhs.dtype:
        numbers, flax_layout = (
            jax.lax.conv_dimension_numbers(lhs.shape, rhs.shape, layout)
            for layout in (dimension_numbers, ("NHWC", "HWIO", "NHWC"))
        )
        if numbers == flax_layout:
            return conv2d(lhs, rhs, window_strides, padding)
    return jax.lax.conv_general_dilated(
        lhs,
        rhs,
        window_strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        dimension_numbers,
        feature_group_count,
        **others,
    )


# The operands have a leading axis g of groups, one for each task under vmap:
#   output: x [g, n, height, width, c], k [g, rows, columns, c, o] -> z [g, n, height', width', o]
#   input:  k, z -> x
#   kernel: x, z -> k
_map_p = Primitive("convolution_map")


def _map(a: Array, b: Array, gives: str, geometry: Geometry) -> Array:
    result: Array = _map_p.bind(*varying_alike(a, b), gives=gives, geometry=geometry)
    return result


def _shape(a: Any, b: Any, *, gives: str, geometry: Geometry) -> Any:
    if gives == "output":
        shape = (*a.shape[:2], *geometry.output, b.shape[-1])
    elif gives == "input":
        shape = (*b.shape[:2], *geometry.image, a.shape[-2])
    else:
        shape = (a.shape[0], *geometry.window, a.shape[-1], b.shape[-1])
    if a.manual_axis_type.varying:
        return a.update(shape=shape, weak_type=False)
    # Not of the operand's type, which outside a shard_map may say that it is sharded over devices.
    return jax.core.ShapedArray(shape, a.dtype)


# The transpose of a map in one operand gives that operand, with the cotangent in place of the map's
# result: for output(x, k) -> z with respect to x, it is input(k, z). The three maps order their
# operands as images, kernel, output, and the missing one names the map.
def _transpose_left(ct: Array, a: Any, b: Array, *, gives: str, geometry: Geometry) -> Array:
    if gives == "input":
        return _map(ct, b, "kernel", geometry)
    return _map(b, ct, "input", geometry) if gives == "output" else _map(ct, b, "input", geometry)


def _transpose_right(ct: Array, a: Array, b: Any, *, gives: str, geometry: Geometry) -> Array:
    if gives == "output":
        return _map(a, ct, "kernel", geometry)
    images, kernel = (ct, a) if gives == "input" else (a, ct)
    return _map(images, kernel, "output", geometry)


def _batch(
    operands: Sequence[Array], axes: Sequence[int | None], *, gives: str, geometry: Geometry
) -> tuple[Array, int]:
    """Tasks of a ``vmap`` become images if they share the kernel, and groups otherwise."""
    # Images do not mix: for a shared kernel, those of all tasks are one large batch. Groups would
    # need a copy of the kernel for each. Its gradient needs no rule of its own: transposed, the map
    # of a large batch is one sum over that batch, without a kernel per task.
    kernel_axis = {"output": axes[1], "input": axes[0]}
    shared = gives in kernel_axis and kernel_axis[gives] is None
    # Kernels of tasks that share their images could likewise be folded into a kernel's outputs.
    # They are not: this gains little, and its transpose, a Winograd kernel map of that many
    # outputs, takes twice as long as groups. If the result is a kernel, each task needs its own.
    place = 1 if shared else 0
    size = next(x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None)

    def fold(x: Array, axis: int | None) -> Array:
        if axis is None:
            if shared:
                return x
            x, axis = jnp.broadcast_to(x[None], (size, *x.shape)), 0
        x = jnp.moveaxis(x, axis, place)
        return x.reshape(*x.shape[:place], -1, *x.shape[place + 2 :])

    a, b = (fold(x, axis) for x, axis in zip(operands, axes, strict=True))
    out = _map(a, b, gives, geometry)
    return out.reshape(*out.shape[:place], size, -1, *out.shape[place + 1 :]), place


def _by_patches(a: Array, b: Array, *, gives: str, geometry: Geometry) -> Array:
    return patches.MAPS[gives](a, b, geometry)


def _on_a_cpu(a: Array, b: Array, *, gives: str, geometry: Geometry) -> Array:
    """The fastest variant, as measured on two cores with AVX-512."""
    if gives == "kernel" and patches.are_few(b, geometry):
        return patches.sum_of_outer_products(a, b, geometry)
    channels = a.shape[-1] if gives == "kernel" else (b if gives == "output" else a).shape[-2]
    outputs = b.shape[-1]
    use = winograd if winograd.suits(geometry, channels, a.dtype) else patches
    apply = functools.partial(use.MAPS[gives], geometry=geometry)
    laid_out = use.laid_out(geometry, channels, outputs) * a.dtype.itemsize
    kernel = math.prod(geometry.window) * channels * outputs * a.dtype.itemsize
    return in_blocks(apply, a, b, gives, laid_out, kernel)


_compiled = jax.jit(_map_p.bind, static_argnames=("gives", "geometry"))


def _outside_of_jit(a: Array, b: Array, **static: Any) -> Array:
    disabled = jax.config.jax_disable_jit  # type: ignore[attr-defined]
    return _by_patches(a, b, **static) if disabled else _compiled(a, b, **static)


_map_p.def_impl(_outside_of_jit)
_map_p.def_abstract_eval(_shape)
ad.defbilinear(_map_p, _transpose_left, _transpose_right)
batching.primitive_batchers[_map_p] = _batch
mlir.register_lowering(_map_p, mlir.lower_fun(_by_patches, multiple_results=False))
mlir.register_lowering(_map_p, mlir.lower_fun(_on_a_cpu, multiple_results=False), platform="cpu")
