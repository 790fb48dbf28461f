"""A convolution that stays fast under ``vmap``, ``scan`` and any order of differentiation.

A convolution is bilinear: images x and kernel k give z, and its two adjoints, which give a gradient
of x or of k, are bilinear in the two others. The three maps are one primitive here,

.. math:: \\langle z, x * k \\rangle = \\langle x, \\mathrm{input}(k, z) \\rangle
          = \\langle k, \\mathrm{kernel}(x, z) \\rangle,

closed under forward and reverse differentiation of any order: a derivative of any of the three is
again one of the three. Each is lowered to matrix products, never to XLA's convolution, whose
gradient is 10 to 20 times slower once ``vmap`` gives every task a kernel of its own.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxmeta.nn import patches, winograd
from jaxmeta.types import Array


class Geometry(NamedTuple):
    """What the three maps of one convolution share, all static.

    Attributes:
      image: height and width of x.
      window: rows and columns of the kernel.
      stride: step between outputs, in pixels, vertically and horizontally.
      padding: zeros before and after the image, vertically and horizontally.
    """

    image: tuple[int, int]
    window: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]

    @property
    def output(self) -> tuple[int, int]:
        """Height and width of z."""
        height, width = (
            (size + sum(pad) - window) // stride + 1
            for size, window, stride, pad in zip(
                self.image, self.window, self.stride, self.padding, strict=True
            )
        )
        return height, width


def conv2d(
    x: Array,
    kernel: Array,
    stride: int | Sequence[int] = 1,
    padding: str | Sequence[tuple[int, int]] = "SAME",
) -> Array:
    r"""Convolution in two dimensions, as ``lax.conv_general_dilated`` computes it.

    .. math:: z_{nijo} = \sum_{abc} x_{n,\,si+a-p,\,sj+b-q,\,c}\; k_{abco}

    Args:
      x: images ``[n, height, width, channels]``.
      kernel: ``[rows, columns, channels, outputs]``.
      stride: s, step between outputs in pixels; one number, or one for each direction.
      padding: ``"SAME"``, ``"VALID"``, or the zeros before and after in each direction.

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
    strides = (stride, stride) if isinstance(stride, int) else tuple(stride)
    image, window = x.shape[1:3], kernel.shape[:2]
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(image, window, strides, padding)
    top_bottom, left_right = ((int(before), int(after)) for before, after in padding)
    geometry = Geometry(image, window, strides, (top_bottom, left_right))
    return _maps_p.bind(x[None], kernel[None], gives="output", geometry=geometry)[0]


# Operands have a leading axis g of groups, one for each task under vmap:
#   output: x [g, n, height, width, c], k [g, rows, columns, c, o] -> z [g, n, height', width', o]
#   input:  k, z -> x        kernel: x, z -> k
_maps_p = Primitive("convolution_maps")
_OPERANDS = {"output": ("input", "kernel"), "input": ("kernel", "output"), "kernel": ("input", "output")}


def _compute(a: Array, b: Array, *, gives: str, geometry: Geometry) -> Array:
    channels = min(a.shape[-1], b.shape[-1]) if gives == "kernel" else min((a if gives == "input" else b).shape[-2:])
    a, b = jax.lax.optimization_barrier((a, b))
    maps = winograd if winograd.suits(geometry, channels) else patches
    compute = {"output": maps.output, "input": maps.input_gradient, "kernel": maps.kernel_gradient}
    return compute[gives](a, b, geometry)


def _shape(a: Any, b: Any, *, gives: str, geometry: Geometry) -> Any:
    if gives == "output":
        shape = (*a.shape[:2], *geometry.output, b.shape[-1])
    elif gives == "input":
        shape = (*b.shape[:2], *geometry.image, a.shape[-2])
    else:
        shape = (a.shape[0], *geometry.window, a.shape[-1], b.shape[-1])
    return a.update(shape=shape, vma=a.vma | b.vma) if hasattr(a, "vma") else a.update(shape=shape)


def _transpose_left(ct: Array, a: Any, b: Array, *, gives: str, geometry: Geometry) -> Array:
    if gives == "output":
        return _maps_p.bind(b, ct, gives="input", geometry=geometry)
    if gives == "input":
        return _maps_p.bind(ct, b, gives="kernel", geometry=geometry)
    return _maps_p.bind(ct, b, gives="input", geometry=geometry)


def _transpose_right(ct: Array, a: Array, b: Any, *, gives: str, geometry: Geometry) -> Array:
    if gives == "output":
        return _maps_p.bind(a, ct, gives="kernel", geometry=geometry)
    if gives == "input":
        return _maps_p.bind(ct, a, gives="output", geometry=geometry)
    return _maps_p.bind(a, ct, gives="output", geometry=geometry)


def _batch(operands: Any, axes: Any, *, gives: str, geometry: Geometry) -> tuple[Array, int]:
    size = next(x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None)
    a, b = (
        jnp.broadcast_to(x[None], (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(operands, axes, strict=True)
    )
    groups = a.shape[1]
    a, b = (x.reshape(size * groups, *x.shape[2:]) for x in (a, b))
    out = _maps_p.bind(a, b, gives=gives, geometry=geometry)
    return out.reshape(size, groups, *out.shape[1:]), 0


_maps_p.def_impl(lambda a, b, **static: jax.jit(partial(_compute, **static))(a, b))
_maps_p.def_abstract_eval(_shape)
ad.defbilinear(_maps_p, _transpose_left, _transpose_right)
batching.primitive_batchers[_maps_p] = _batch
mlir.register_lowering(_maps_p, mlir.lower_fun(_compute, multiple_results=False))
