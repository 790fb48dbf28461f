"""The sum of Objectives that share parameters by name."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxmeta.inner import path_name
from jaxmeta.types import Array, Carried, Key, Metrics, Objective, PyTree, Report


def added(
    objectives: Mapping[str, Objective], weights: Mapping[str, float] | None = None
) -> Objective:
    r"""A weighted sum of the losses of one task.

    .. math:: \ell(\theta) = \sum_i w_i\, \ell_i(\theta)

    Parameters of the same name, such as ``"model"``, are shared and are initialized by the first
    objective that has them. States are separate, so each objective keeps its own statistics.

    Args:
      objectives: by name, all over the same tasks.
      weights: the weights :math:`w_i` by name; 1 where none is given.

    Returns:
      An objective with the parameters of all, whose state is a dictionary of their states by name,
      and whose metrics, which include the loss of each, are prefixed by name:
      ``"rotation_accuracy"``.

    Raises:
      ValueError: there is no objective, a weight names none of them or, from ``init``, parameters
        of the same name differ in structure or shape.

    References:
      Gidaris et al., 2019, Boosting Few-Shot Visual Learning with Self-Supervision, equation 3.

    >>> from jaxmeta.learners import prototypical
    >>> from jaxmeta.losses import cross_entropy
    >>> from jaxmeta.nn import conv4
    >>> from jaxmeta.objectives import episodic
    >>> from jaxmeta.pretraining import rotation
    >>> few_shot = episodic(prototypical(conv4(), ways=5), cross_entropy)
    >>> objective = added({"few_shot": few_shot, "rotation": rotation(conv4())}, {"rotation": 0.5})
    """
    if not isinstance(objectives, Mapping):
        raise ValueError(
            f"added got a {type(objectives).__name__}: give a dictionary of objectives by name."
        )
    weights = weights or {}
    for name in weights:
        if name not in objectives:
            raise ValueError(
                f"weights names '{name}', and the objectives are {', '.join(objectives)}: give "
                "weights of those."
            )
    for name, weight in weights.items():
        if not (isinstance(weight, int | float) and math.isfinite(weight)):
            raise ValueError(f"The weight of '{name}' is {weight!r}: give a finite number.")
    if not objectives:
        raise ValueError("added got 0 objectives: give at least one.")

    def init(key: Key, task: Any) -> tuple[PyTree, PyTree]:
        params: dict[str, Any] = {}
        states = {}
        keys = jax.random.split(key, len(objectives))
        for (name, objective), own in zip(objectives.items(), keys, strict=True):
            new, states[name] = objective.init(own, task)
            for part, value in new.items():
                if not jax.tree.leaves(params.get(part)):
                    params[part] = value
                elif jax.tree.leaves(value) and _shapes(value) != _shapes(params[part]):
                    raise ValueError(
                        f"The parameters '{part}' of the objective '{name}' are "
                        f"{_shapes(value)} and those of the ones before {_shapes(params[part])}: "
                        "add objectives whose parameters of one name are the same."
                    )
        return params, states

    def loss(params: PyTree, state: PyTree, task: Any, key: Key) -> tuple[Array, Report]:
        task, carries = task if isinstance(task, Carried) else (task, {})
        reports: dict[str, Report] = {}
        metrics: Metrics = {}
        value = jnp.zeros(())
        keys = jax.random.split(key, len(objectives))
        for (name, objective), own in zip(objectives.items(), keys, strict=True):
            given = Carried(task, carries[name]) if name in carries else task
            each, report = objective.loss(params, state[name], given, own)
            value += weights.get(name, 1) * each
            named = {"loss": each, **report.metrics}
            metrics |= {f"{name}_{metric}": number for metric, number in named.items()}
            reports[name] = report
        statistics = {name: report.statistics for name, report in reports.items()}
        carry = {name: reports[name].carry for name in carries} if carries else ()
        return value, Report(statistics, metrics, carry)

    def update(state: PyTree, params: PyTree, statistics: PyTree) -> PyTree:
        return {
            name: objective.update(state[name], params, statistics[name])
            for name, objective in objectives.items()
        }

    carried = {name: each.carry for name, each in objectives.items() if each.carry is not None}

    def begin(params: PyTree, state: PyTree, task: Any, key: Key) -> PyTree:
        keys = jax.random.split(key, len(carried))
        return {
            name: carry(params, state[name], task, own)
            for (name, carry), own in zip(carried.items(), keys, strict=True)
        }

    return Objective(init, loss, update, begin if carried else None)


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {path_name(path): jnp.shape(leaf) for path, leaf in leaves}
