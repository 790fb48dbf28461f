r"""Gradient surgery: what to do when the gradients of tasks conflict.

Each method chooses coefficients a from the Gram matrix :math:`G = J J^\top` of the tasks' gradients
J ``[k, P]``, and descends along :math:`J^\top a`. A method is thus a function of a k x k matrix,
and the large gradients enter two products, whatever the method.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxmeta.gradients.estimator import (
    Estimator,
    PerTask,
    Totals,
    reduce_reports,
    task_losses,
)
from jaxmeta.types import Array, Key, Objective, PyTree, Report

Coefficients = Callable[[Array, Array, Key | None], Array]
"""``(Gram matrix [k, k], losses [k], key) -> coefficients [k]``."""

ITERATIONS = 200
"""Steps of :func:`cagrad`'s minimization over the simplex."""


def by_coefficients(coefficients: Coefficients) -> Estimator:
    r"""The combination :math:`\sum_i a_i \nabla \ell_i` of the tasks' own gradients.

    Every task's gradient is kept until all are computed, so memory grows with the number of tasks.

    Args:
      coefficients: ``(G [k, k], losses [k], key) -> a [k]``, where G holds the inner products of
        the tasks' gradients; ``a = 1 / k`` is the mean.

    >>> from jaxmeta.types import Objective, Report
    >>> from jaxmeta.gradients import estimate
    >>> squares = Objective(
    ...     init=lambda key, task: (jnp.zeros(()), ()),
    ...     loss=lambda params, state, task, key: ((params - task) ** 2 / 2, Report()),
    ... )
    >>> first = by_coefficients(lambda gram, losses, key: jnp.array([1.0, 0.0]))
    >>> keys = jax.random.split(jax.random.key(0), 2)
    >>> estimate(squares, estimator=first)(jnp.zeros(()), (), jnp.array([1.0, 3.0]), keys)[0].item()
    -1.0
    """

    def each(
        objective: Objective,
        params: PyTree,
        state: PyTree,
        tasks: PyTree,
        keys: Key,
        weights: Array,
    ) -> tuple[Totals, PerTask]:
        def own(params: PyTree, task: PyTree, key: Key) -> tuple[PyTree, tuple[Array, Report]]:
            def loss(params: PyTree) -> tuple[Array, tuple[Array, Report]]:
                alone = jax.tree.map(lambda leaf: leaf[None], (task, key))
                outcome = task_losses(objective, params, state, *alone)
                losses, reports = jax.tree.map(lambda leaf: leaf[0], outcome)
                return losses, (losses, reports)

            return jax.grad(loss, has_aux=True)(params)

        gradients, (losses, reports) = jax.vmap(own, in_axes=(None, 0, 0))(params, tasks, keys)
        return reduce_reports((), reports, weights), PerTask((gradients, losses), reports.carry)

    def combine(sums: PyTree, per_task: tuple[PyTree, Array], key: Key | None) -> PyTree:
        gradients, losses = per_task
        a = coefficients(gram_matrix(gradients), losses, key)
        return jax.tree.map(lambda leaf: jnp.tensordot(a.astype(leaf.dtype), leaf, 1), gradients)

    return Estimator(each, combine)


def gram_matrix(gradients: PyTree) -> Array:
    """Inner products ``[k, k]`` of gradients ``[k, ...]``, over all leaves together."""
    rows = [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(gradients)]
    # In full precision: whether gradients conflict depends on the sign of a small difference.
    products = [jnp.matmul(row, row.T, precision=jax.lax.Precision.HIGHEST) for row in rows]
    return sum(products[1:], start=products[0])


def pcgrad() -> Estimator:
    r"""PCGrad: removes from each task's gradient what conflicts with another task's.

    .. math:: g_i \leftarrow g_i - \frac{\min(g_i^\top \nabla\ell_j,\, 0)}
              {\lVert \nabla\ell_j \rVert^2} \nabla\ell_j \quad \text{for all } j \neq i
              \text{ in random order}, \qquad \frac1k \sum_i g_i

    Without conflicts it is the mean gradient. (The paper uses the sum, in the same direction.)

    References:
      Yu et al., 2020, Gradient Surgery for Multi-Task Learning, algorithm 1.

    >>> gram = jnp.array([[1.0, -1.0], [-1.0, 4.0]])
    >>> pcgrad_coefficients(gram, jnp.zeros(2), jax.random.key(0)).tolist()
    [1.0, 0.625]
    """
    return by_coefficients(pcgrad_coefficients)


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


def cagrad(c: float = 0.5) -> Estimator:
    r"""CAGrad: the direction near the mean gradient that most helps the task it helps least.

    .. math:: \max_d \min_i \nabla\ell_i^\top d \quad \text{with} \quad
              \lVert d - g_0 \rVert \le c \lVert g_0 \rVert, \qquad
              g_0 = \frac1k \sum_i \nabla\ell_i

    By its dual, :math:`d = g_0 + c \lVert g_0 \rVert\, g_w / \lVert g_w \rVert` with
    :math:`g_w = \sum_i w_i \nabla\ell_i` and w on the simplex minimizing
    :math:`g_w^\top g_0 + c \lVert g_0 \rVert \lVert g_w \rVert`. As in the authors' code, d is
    divided by :math:`1 + c^2`.

    Args:
      c: how far d may be from the mean gradient: from 0, the mean gradient itself, to below 1.

    Raises:
      ValueError: ``c`` is outside [0, 1).

    References:
      Liu et al., 2021, Conflict-Averse Gradient Descent for Multi-task Learning, algorithm 1.

    >>> estimator = cagrad(c=0.0)
    """
    if not 0 <= c < 1:
        raise ValueError(f"c is {c}: give a number from 0 up to below 1.")

    def coefficients(gram: Array, losses: Array, key: Key | None) -> Array:
        k = gram.shape[0]
        even = jnp.full(k, 1 / k, gram.dtype)
        # Relative to the largest, so that one step size and one epsilon suit all gradients.
        scale = jnp.maximum(jnp.max(jnp.diagonal(gram)), jnp.finfo(gram.dtype).tiny)
        gram = gram / scale
        radius = c * jnp.sqrt(jnp.maximum(even @ gram @ even, 0))

        def dual(w: Array) -> Array:
            return w @ gram @ even + radius * jnp.sqrt(jnp.maximum(w @ gram @ w, 0) + 1e-12)

        def descend(carry: tuple[Array, Array], step: Array) -> tuple[tuple[Array, Array], None]:
            # Projected gradient with momentum (FISTA): the dual is convex.
            w, ahead = carry
            with jax.numpy_dtype_promotion("standard"):  # optax relies on it
                moved = optax.projections.projection_simplex(ahead - jax.grad(dual)(ahead) / 4)
            momentum = (step / (step + 3)).astype(w.dtype)
            return (moved, moved + momentum * (moved - w)), None

        steps = jnp.arange(ITERATIONS, dtype=jnp.float32)
        (w, _), _ = jax.lax.scan(descend, (even, even), steps)
        length = jnp.sqrt(jnp.maximum(w @ gram @ w, 0) + 1e-12)
        return (even + radius * w / length) / (1 + c**2)

    return by_coefficients(coefficients)


def worst_case() -> Estimator:
    r"""The gradient of the largest loss, :math:`\nabla \max_i \ell_i(\theta)`.

    References:
      Collins, Mokhtari and Shakkottai, 2020, Task-Robust Model-Agnostic Meta-Learning, equation 3.

    >>> estimator = worst_case()
    """

    def coefficients(gram: Array, losses: Array, key: Key | None) -> Array:
        return jax.nn.one_hot(jnp.argmax(losses), losses.shape[0], dtype=gram.dtype)

    return by_coefficients(coefficients)
