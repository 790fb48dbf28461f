r"""A convolution that stays fast under ``vmap``, ``scan`` and any order of differentiation.

A convolution is bilinear: images x and a kernel k give z. Its two adjoints, which turn a z into
images or into a kernel, are bilinear as well,

.. math:: \langle z, \mathrm{output}(x, k) \rangle = \langle x, \mathrm{input}(k, z) \rangle
          = \langle k, \mathrm{kernel}(x, z) \rangle,

and a derivative of any of the three maps, forward or reverse, is one of the three again. So one
primitive is closed under differentiation of any order, and its lowering alone decides how fast all
orders are. It is lowered to matrix products, never to XLA's convolution, which becomes a grouped
one when ``vmap`` gives every task a kernel of its own, with a gradient 10 to 20 times slower.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxmeta.nn import patches, winograd
from jaxmeta.nn.geometry import Geometry
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
      ValueError: image and kernel differ in channels.
    """
    if x.shape[-1] != kernel.shape[2]:
        raise ValueError(
            f"Images have {x.shape[-1]} channels but the kernel takes {kernel.shape[2]}: give "
            "images like those that the model was made for."
        )
    down, right = (stride, stride) if isinstance(stride, int) else stride
    image, window = (x.shape[1], x.shape[2]), (kernel.shape[0], kernel.shape[1])
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(image, window, (down, right), padding)
    (top, bottom), (left, rest) = padding
    geometry = Geometry(image, window, (down, right), ((top, bottom), (left, rest)))
    return _maps(x[None], kernel[None], "output", geometry)[0]


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
    """``lax.conv_general_dilated``, by :func:`conv2d` where it can.

    For flax: ``linen.Conv(64, (3, 3), conv_general_dilated=jaxmeta.nn.conv_general_dilated)``, and
    the same argument of ``nnx.Conv``. Convolutions that are dilated, grouped or not in two
    dimensions, or not laid out as flax does, are handed to XLA.
    """
    numbers = jax.lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    flax_layout = jax.lax.conv_dimension_numbers(lhs.shape, rhs.shape, ("NHWC", "HWIO", "NHWC"))
    plain = all(step == 1 for step in (*(lhs_dilation or ()), *(rhs_dilation or ())))
    if lhs.ndim == 4 and numbers == flax_layout and plain and feature_group_count == 1:
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
_maps_p = Primitive("convolution_maps")


def _maps(a: Array, b: Array, gives: str, geometry: Geometry) -> Array:
    result: Array = _maps_p.bind(a, b, gives=gives, geometry=geometry)
    return result


def _shape(a: Any, b: Any, *, gives: str, geometry: Geometry) -> Any:
    if gives == "output":
        shape = (*a.shape[:2], *geometry.output, b.shape[-1])
    elif gives == "input":
        shape = (*b.shape[:2], *geometry.image, a.shape[-2])
    else:
        shape = (a.shape[0], *geometry.window, a.shape[-1], b.shape[-1])
    return jax.core.ShapedArray(shape, a.dtype)


def _transpose_left(ct: Array, a: Any, b: Array, *, gives: str, geometry: Geometry) -> Array:
    if gives == "input":
        return _maps(ct, b, "kernel", geometry)
    return _maps(b, ct, "input", geometry) if gives == "output" else _maps(ct, b, "input", geometry)


def _transpose_right(ct: Array, a: Array, b: Any, *, gives: str, geometry: Geometry) -> Array:
    if gives == "output":
        return _maps(a, ct, "kernel", geometry)
    return (
        _maps(ct, a, "output", geometry) if gives == "input" else _maps(a, ct, "output", geometry)
    )


def _batch(
    operands: Sequence[Array], axes: Sequence[int | None], *, gives: str, geometry: Geometry
) -> tuple[Array, int]:
    size = next(x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None)
    stacked = (
        jnp.broadcast_to(x[None], (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(operands, axes, strict=True)
    )
    a, b = (x.reshape(-1, *x.shape[2:]) for x in stacked)
    out = _maps(a, b, gives, geometry)
    return out.reshape(size, -1, *out.shape[1:]), 0


def _by_patches(a: Array, b: Array, *, gives: str, geometry: Geometry) -> Array:
    return patches.MAPS[gives](a, b, geometry)


def _on_a_cpu(a: Array, b: Array, *, gives: str, geometry: Geometry) -> Array:
    """Winograd's algorithm where it is the faster one, measured on two cores with AVX-512."""
    channels = a.shape[-1] if gives == "kernel" else (b if gives == "output" else a).shape[-2]
    use = winograd if winograd.suits(geometry, channels, a.dtype) else patches
    return use.MAPS[gives](a, b, geometry)


_maps_p.def_impl(jax.jit(_maps_p.bind, static_argnames=("gives", "geometry")))
_maps_p.def_abstract_eval(_shape)
ad.defbilinear(_maps_p, _transpose_left, _transpose_right)
batching.primitive_batchers[_maps_p] = _batch
mlir.register_lowering(_maps_p, mlir.lower_fun(_by_patches, multiple_results=False))
mlir.register_lowering(_maps_p, mlir.lower_fun(_on_a_cpu, multiple_results=False), platform="cpu")
