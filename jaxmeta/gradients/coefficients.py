r"""Weighing tasks by their gradients, as when these conflict.

Each method chooses coefficients a from the Gram matrix :math:`G = J J^\top` of the tasks' gradients
J ``[k, P]``, and descends along :math:`J^\top a`. A method is thus a function of a k x k matrix,
and the large gradients enter two products, whatever the method.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxmeta.gradients.estimator import (
    Estimator,
    PerTask,
    Totals,
    reduce_reports,
    task_losses,
)
from jaxmeta.inner import path_name, within
from jaxmeta.types import Array, Key, Objective, PyTree, Report

Coefficients = Callable[[Array, Array, Key | None], Array]
"""``(Gram matrix [k, k], losses [k], key) -> coefficients [k]``."""


def by_coefficients(coefficients: Coefficients, shared: Sequence[str] | None = None) -> Estimator:
    r"""The combination :math:`\sum_i a_i \nabla \ell_i` of the tasks' own gradients.

    Every task's gradient is kept until all are computed, so memory grows with the number of tasks.

    Args:
      coefficients: ``(G [k, k], losses [k], key) -> a [k]``, where G holds the inner products of
        the tasks' gradients; ``a = 1 / k`` is the mean.
      shared: the parts of the parameters that tasks share, named like ``"model"`` or
        ``"model/block0"``: only these enter G and are weighed; of all others, such as heads, the
        mean is taken. ``None`` for all parts.

    Raises:
      ValueError: ``shared`` names no parts or, when called, a part is not there.

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
    if shared is not None and (isinstance(shared, str) or not shared):
        raise ValueError(f"shared is {shared!r}: give a list of parts, as in ['model'].")

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
        leaves, structure = jax.tree_util.tree_flatten_with_path(gradients)
        names = [path_name(path) for path, _ in leaves]
        weighed = [shared is None or any(within(name, part) for part in shared) for name in names]
        for part in shared or ():
            if not any(within(name, part) for name in names):
                raise ValueError(
                    f"No parameter is in the shared part '{part}': give parts of "
                    f"{', '.join(names)}."
                )
        own = [leaf for (_, leaf), each in zip(leaves, weighed, strict=True) if each]
        a = coefficients(gram_matrix(own), losses, key)
        even = jnp.full_like(a, 1 / a.size)
        return jax.tree.unflatten(
            structure,
            [
                jnp.tensordot((a if each else even).astype(leaf.dtype), leaf, 1)
                for (_, leaf), each in zip(leaves, weighed, strict=True)
            ],
        )

    return Estimator(each, combine)


def gram_matrix(gradients: PyTree) -> Array:
    """Inner products ``[k, k]`` of gradients ``[k, ...]``, over all leaves together."""
    rows = [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(gradients)]
    # In full precision: whether gradients conflict depends on the sign of a small difference.
    products = [jnp.matmul(row, row.T, precision=jax.lax.Precision.HIGHEST) for row in rows]
    return sum(products[1:], start=products[0])
