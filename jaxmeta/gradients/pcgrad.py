"""PCGrad: a task's gradient loses what conflicts with another's."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxmeta.gradients.coefficients import by_coefficients
from jaxmeta.gradients.estimator import Estimator
from jaxmeta.types import Array, Key


def pcgrad(shared: Sequence[str] | None = None) -> Estimator:
    r"""PCGrad: removes from each task's gradient what conflicts with another task's.

    .. math:: g_i \leftarrow g_i - \frac{\min(g_i^\top \nabla\ell_j,\, 0)}
              {\lVert \nabla\ell_j \rVert^2} \nabla\ell_j \quad \text{for all } j \neq i
              \text{ in random order}, \qquad \frac1k \sum_i g_i

    Without conflicts it is the mean gradient. (The paper uses the sum, in the same direction.)

    Args:
      shared: as in :func:`jaxmeta.gradients.by_coefficients`.

    Raises:
      ValueError: when called, no key is given.

    References:
      Yu et al., 2020, Gradient Surgery for Multi-Task Learning, algorithm 1.

    >>> gram = jnp.array([[1.0, -1.0], [-1.0, 4.0]])
    >>> pcgrad_coefficients(gram, jnp.zeros(2), jax.random.key(0)).tolist()
    [1.0, 0.625]
    """
    return by_coefficients(pcgrad_coefficients, shared)


def pcgrad_coefficients(gram: Array, losses: Array, key: Key | None) -> Array:
    """The coefficients of :func:`pcgrad`, starting from row i of the identity for each task i."""
    if key is None:
        raise ValueError("key is None, but PCGrad takes tasks in random order: give a key.")
    k = gram.shape[0]

    def of_task(i: Array, key: Key) -> Array:
        def project(row: Array, j: Array) -> tuple[Array, None]:
            overlap = row @ gram[:, j]
            conflicts = (overlap < 0) & (j != i)
            # A conflicting gradient is not zero, so the division is safe where it counts.
            share = jnp.where(conflicts, overlap / jnp.where(conflicts, gram[j, j], 1), 0)
            return row.at[j].add(-share), None

        order = jax.random.permutation(key, k)
        return jax.lax.scan(project, jax.nn.one_hot(i, k, dtype=gram.dtype), order)[0]

    rows = jax.vmap(of_task)(jnp.arange(k), jax.random.split(key, k))
    return jnp.sum(rows, axis=0) / k
