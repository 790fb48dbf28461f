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

import operator
from collections.abc import Callable, Sequence
from functools import partial
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
      ValueError: image and kernel differ in channels or in type.
    """
    if x.dtype != kernel.dtype:
        raise ValueError(
            f"Images are of type {x.dtype} but the kernel is of type {kernel.dtype}: convert one."
        )
    if x.shape[-1] != kernel.shape[2]:
        raise ValueError(
            f"Images have {x.shape[-1]} channels but the kernel takes {kernel.shape[2]}: give "
            "images like those that the model was made for."
        )
    down, right = stride if isinstance(stride, Sequence) else (stride, stride)
    down, right = operator.index(down), operator.index(right)
    image, window = (x.shape[1], x.shape[2]), (kernel.shape[0], kernel.shape[1])
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(image, window, (down, right), padding)
    (top, bottom), (left, rest) = padding
    geometry = Geometry(image, window, (down, right), ((top, bottom), (left, rest)))
    if 0 in (x.size, kernel.size, *geometry.output):
        return jnp.zeros((x.shape[0], *geometry.output, kernel.shape[3]), x.dtype)
    return _map(x[None], kernel[None], "output", geometry)[0]


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
    the same argument of ``nnx.Conv``. Convolutions that are dilated, grouped, not in two
    dimensions, not laid out as flax does, or of a given precision, are handed to XLA.
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
# The product rule, a, b, da, db -> map(da, b) + map(a, db), as one map over twice as many channels,
# outputs or images, whichever the map sums over: forward differentiation costs one map, not two.
_differential_p = Primitive("convolution_differential")
_SUMMED = {"output": (4, 3), "input": (4, 4), "kernel": (1, 1)}


def _map(a: Array, b: Array, gives: str, geometry: Geometry) -> Array:
    result: Array = _map_p.bind(a, b, gives=gives, geometry=geometry)
    return result


def _shape(a: Any, b: Any, *_: Any, gives: str, geometry: Geometry) -> Any:
    if gives == "output":
        shape = (*a.shape[:2], *geometry.output, b.shape[-1])
    elif gives == "input":
        shape = (*b.shape[:2], *geometry.image, a.shape[-2])
    else:
        shape = (a.shape[0], *geometry.window, a.shape[-1], b.shape[-1])
    return jax.core.ShapedArray(shape, a.dtype)


def _left_adjoint(ct: Array, b: Array, gives: str, geometry: Geometry) -> Array:
    """The adjoint of ``a -> map(a, b)``."""
    if gives == "input":
        return _map(ct, b, "kernel", geometry)
    return _map(b, ct, "input", geometry) if gives == "output" else _map(ct, b, "input", geometry)


def _right_adjoint(ct: Array, a: Array, gives: str, geometry: Geometry) -> Array:
    """The adjoint of ``b -> map(a, b)``."""
    if gives == "output":
        return _map(a, ct, "kernel", geometry)
    images, kernel = (ct, a) if gives == "input" else (a, ct)
    return _map(images, kernel, "output", geometry)


def _differential(a: Any, b: Any, da: Any, db: Any, **static: Any) -> Any:
    """``map(da, b) + map(a, db)``, where a tangent may be a symbolic zero."""
    if isinstance(da, ad.Zero):
        return da if isinstance(db, ad.Zero) else _map_p.bind(a, db, **static)
    if isinstance(db, ad.Zero):
        return _map_p.bind(da, b, **static)
    return _differential_p.bind(a, b, da, db, **static)


def _map_jvp(primals: Sequence[Array], tangents: Sequence[Any], **static: Any) -> tuple[Any, Any]:
    out = _map_p.bind(*primals, **static)
    return out, _differential(*primals, *tangents, **static)


def _differential_jvp(
    primals: Sequence[Array], tangents: Sequence[Any], **static: Any
) -> tuple[Any, Any]:
    a, b, da, db = primals
    out = _differential_p.bind(*primals, **static)
    # It is linear in (a, b) as well as in (da, db), and symmetric.
    parts = (
        _differential(a, b, *tangents[2:], **static),
        _differential(da, db, *tangents[:2], **static),
    )
    return out, ad.add_tangents(*parts)


def _map_transpose(ct: Any, a: Any, b: Any, **static: Any) -> list[Any]:
    if isinstance(ct, ad.Zero):
        return [None, None]
    if ad.is_undefined_primal(a):
        return [_left_adjoint(ct, b, **static), None]
    return [None, _right_adjoint(ct, a, **static)]


def _differential_transpose(ct: Any, a: Any, b: Any, da: Any, db: Any, **static: Any) -> list[Any]:
    if isinstance(ct, ad.Zero):
        return [None] * 4
    if ad.is_undefined_primal(da) or ad.is_undefined_primal(db):
        first, second = (a, b), (da, db)
    else:
        first, second = (da, db), (a, b)
    left = _left_adjoint(ct, first[1], **static) if ad.is_undefined_primal(second[0]) else None
    right = _right_adjoint(ct, first[0], **static) if ad.is_undefined_primal(second[1]) else None
    moved = [left, right]
    return [None, None, *moved] if second[0] is da else [*moved, None, None]


def _batch(
    primitive: Primitive, operands: Sequence[Array], axes: Sequence[int | None], **static: Any
) -> tuple[Array, int]:
    size = next(x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None)
    stacked = (
        jnp.broadcast_to(x[None], (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(operands, axes, strict=True)
    )
    out = primitive.bind(*(x.reshape(-1, *x.shape[2:]) for x in stacked), **static)
    return out.reshape(size, -1, *out.shape[1:]), 0


def _by_patches(a: Array, b: Array, *tangents: Array, gives: str, geometry: Geometry) -> Array:
    return patches.MAPS[gives](*_joined(a, b, tangents, gives), geometry)


def _on_a_cpu(a: Array, b: Array, *tangents: Array, gives: str, geometry: Geometry) -> Array:
    """Winograd's algorithm where it is the faster one, measured on two cores with AVX-512."""
    channels = a.shape[-1] if gives == "kernel" else (b if gives == "output" else a).shape[-2]
    use = winograd if winograd.suits(geometry, channels, a.dtype) else patches
    return use.MAPS[gives](*_joined(a, b, tangents, gives), geometry)


def _joined(a: Array, b: Array, tangents: tuple[Array, ...], gives: str) -> tuple[Array, Array]:
    if not tangents:
        return a, b
    left, right = _SUMMED[gives]
    da, db = tangents
    return jnp.concatenate([da, a], left), jnp.concatenate([b, db], right)


def _run(compiled: Callable[..., Array], *operands: Array, **static: Any) -> Array:
    """Outside of ``jit``."""
    return (_by_patches if jax.config.jax_disable_jit else compiled)(*operands, **static)  # type: ignore[attr-defined]


for primitive, jvp, transpose in (
    (_map_p, _map_jvp, _map_transpose),
    (_differential_p, _differential_jvp, _differential_transpose),
):
    primitive.def_impl(
        partial(_run, jax.jit(primitive.bind, static_argnames=("gives", "geometry")))
    )
    primitive.def_abstract_eval(_shape)
    ad.primitive_jvps[primitive] = jvp
    ad.primitive_transposes[primitive] = transpose
    batching.primitive_batchers[primitive] = partial(_batch, primitive)
    mlir.register_lowering(primitive, mlir.lower_fun(_by_patches, multiple_results=False))
    mlir.register_lowering(
        primitive, mlir.lower_fun(_on_a_cpu, multiple_results=False), platform="cpu"
    )
