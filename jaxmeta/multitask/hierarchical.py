"""Hierarchical multi-task learning: easier tasks are solved from lower layers."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from jaxmeta.multitask.heads import check_stages, flat
from jaxmeta.multitask.per_task import per_task, statistics_per_task
from jaxmeta.nn import Use, assembled
from jaxmeta.types import Array, Model, Tasked


def hierarchical(stages: Sequence[Model], head: Model, depths: Sequence[int]) -> Model:
    r"""One network for all tasks, and a head for each at a depth of its own.

    .. math:: f(x, t) = h_t\big((g_{d_t} \circ \cdots \circ g_1)(x)\big)

    The stages above the depth of a task get no gradient from it.

    Args:
      stages: the shared network, one part after the other.
      head: the head that each task gets, on the flattened outputs of its stage.
      depths: how many stages each task has, one number for each task.

    Returns:
      A model over :class:`~jaxmeta.types.Tasked` inputs of one task, with parameters
      ``{"stage0", ..., "heads2", ...}``: the heads of depth d are those of ``heads`` d.

    Raises:
      ValueError: there is no stage or task, a depth is not between 1 and the number of stages or,
        when called, the inputs name no task.

    References:
      Søgaard and Goldberg, 2016, Deep Multi-task Learning with Low Level Tasks Supervised at Lower
      Layers; Hashimoto et al., 2017, A Joint Many-Task Model.

    >>> import jax
    >>> from jaxmeta.nn import mlp
    >>> network = hierarchical([mlp(8), mlp(6)], mlp(2, hidden=()), depths=[1, 2, 2])
    >>> x = Tasked(jnp.ones((4, 5)), jnp.full(4, 1))
    >>> params, state = network.init(jax.random.key(0), x)
    >>> network.apply(params, state, x)[0].shape
    (4, 2)
    """
    check_stages(stages)
    if not depths or any(depth not in range(1, len(stages) + 1) for depth in depths):
        raise ValueError(
            f"depths is {list(depths)}: give each task a number from 1 to {len(stages)}, as there "
            f"are {len(stages)} stages."
        )
    tasks = len(depths)
    # A task's number among the tasks of its depth.
    places = [list(depths[:t]).count(depth) for t, depth in enumerate(depths)]

    def forward(use: Use, x: Tasked) -> Array:
        maps, task = x.x, x.task
        chosen: Any = None
        depth = jnp.array(depths, jnp.int32)[task]
        for i, stage in enumerate(stages, start=1):
            maps = use(f"stage{i - 1}", statistics_per_task(stage, tasks), Tasked(maps, task))
            count = list(depths).count(i)
            if not count:
                continue
            # Tasks of another depth have no head here: what they get is not chosen, and they change
            # no statistics.
            place = jnp.where(depth == i, jnp.array(places, jnp.int32)[task], count)
            logits = use(f"heads{i}", per_task(head, count), Tasked(flat(maps), place))
            chosen = logits if chosen is None else jnp.where(depth[:, None] == i, logits, chosen)
        return chosen

    return assembled(forward)
