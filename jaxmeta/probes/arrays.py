"""Checks and helpers for arrays that the probes share."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.checks import check_count
from jaxmeta.data.batches import lengths
from jaxmeta.types import Array, PyTree

# Accelerators round products to fewer bits than solving linear systems can tolerate.
exact_product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def labeled(z: Array, y: Array, classes: int) -> tuple[Array, Array]:
    """Checked features, in 32 bits or more, and their labels."""
    check_count("classes", classes, least=1)
    z, y = jnp.asarray(z), jnp.asarray(y)
    if z.ndim != 2 or y.shape != z.shape[:1] or not jnp.issubdtype(y.dtype, jnp.integer):
        raise ValueError(
            f"Features have shape {z.shape}, and labels shape {y.shape} and type {y.dtype}: give "
            "features [n, d] and integer labels [n]."
        )
    if not isinstance(y, jax.core.Tracer):
        labels = np.asarray(y)
        outside = labels[(labels < 0) | (labels >= classes)]
        if outside.size:
            raise ValueError(
                f"Label {outside[0]} is outside of {classes} classes: give labels from 0 to "
                f"{classes - 1}."
            )
    narrow = not jnp.issubdtype(z.dtype, jnp.floating) or jnp.finfo(z.dtype).bits < 32
    return z.astype(jnp.float32) if narrow else z, y


def check_inputs(x: Any, batch: int) -> None:
    """Raises ``ValueError`` when there are no inputs, or their arrays differ in length."""
    check_count("batch", batch, least=1)
    if len(set(lengths(x))) != 1 or not lengths(x)[0]:
        raise ValueError(
            f"The inputs are {lengths(x)} in number: give arrays of one length [n, ...], with one "
            "example or more."
        )


def ones(x: PyTree) -> Array:
    """A mask that lets every example count."""
    return jnp.ones(lengths(x)[0], jnp.float32)
