"""Nearest neighbors: each example is labeled by those most similar to it."""

import functools

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count, check_positive
from jaxmeta.distributed.microbatches import in_chunks
from jaxmeta.learners.frames.support import to_unit_length
from jaxmeta.probes.arrays import check_inputs, exact_product, labeled, ones
from jaxmeta.types import Array, PyTree


def nearest_neighbors(
    train_z: Array,
    train_y: Array,
    z: Array,
    classes: int,
    k: int = 20,
    temperature: float = 0.07,
    batch: int = 256,
) -> Array:
    r"""Labels by a vote of the k most similar examples, each weighted by its cosine.

    .. math:: \hat y(z) = \operatorname*{argmax}_c \sum_{i \in N_k(z)} [y_i = c]\,
              \exp(\cos(z, z_i) / T)

    Args:
      train_z: features of the examples that vote, ``[n, d]``.
      train_y: their labels, integers ``[n]`` in ``[0, classes)``.
      z: features of the examples to label, ``[m, d]``.
      classes: number of classes.
      k: number of neighbors that vote.
      temperature: T, applied to the cosines.
      batch: the largest number of z compared at a time: ``[batch, n]`` cosines are in memory.

    Returns:
      Labels, int32 ``[m]``; in a tie, the first class.

    Raises:
      ValueError: features and labels do not fit together, a label is outside ``[0, classes)``,
        there are fewer than k examples, or the temperature is not positive.

    References:
      Wu et al., 2018, Unsupervised Feature Learning via Non-Parametric Instance Discrimination,
      section 3.4; Caron et al., 2021, Emerging Properties in Self-Supervised Vision Transformers
      (k of 20).

    >>> train_z, train_y = jnp.array([[1.0, 0.0], [1.0, 0.2], [0.0, 1.0]]), jnp.array([0, 0, 1])
    >>> nearest_neighbors(train_z, train_y, jnp.array([[5.0, 0.1], [0.1, 1.0]]), classes=2, k=1)
    Array([0, 1], dtype=int32)
    """
    train_z, train_y = labeled(train_z, train_y, classes)
    z = jnp.asarray(z)
    check_inputs(z, batch)
    if z.ndim != 2 or z.shape[1] != train_z.shape[1]:
        raise ValueError(
            f"Features have shapes {train_z.shape} to vote and {z.shape} to be asked about: give "
            "both the same dimensions, as [n, d] and [m, d]."
        )
    check_count("k", k, least=1)
    if k > train_z.shape[0]:
        raise ValueError(f"k is {k} and there are {train_z.shape[0]} examples: give a smaller k.")
    check_positive("temperature", temperature)
    return _voted(train_z, train_y, z.astype(train_z.dtype), temperature, classes, k, batch)


@functools.partial(jax.jit, static_argnums=(4, 5, 6))
def _voted(
    train_z: Array, train_y: Array, z: Array, temperature: Array, classes: int, k: int, batch: int
) -> Array:
    def some(common: PyTree, z: Array, mask: Array) -> tuple[PyTree, Array]:
        voters, labels = common
        similar, rows = jax.lax.top_k(exact_product(to_unit_length(z), voters.T), k)
        # Only their ratios matter, and exp of a cosine over a small temperature may be infinite.
        weights = jnp.exp((similar - similar[:, :1]) / temperature)
        member = jax.nn.one_hot(labels[rows], classes, dtype=weights.dtype)
        return (), jnp.argmax(jnp.sum(weights[:, :, None] * member, axis=1), axis=1)

    common = to_unit_length(train_z), train_y
    return in_chunks(batch)(some)(common, z, ones(z))[1].astype(jnp.int32)
