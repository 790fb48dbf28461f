"""Customized gate control and progressive layered extraction: experts of all tasks and of one."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.multitask.heads import check_stages, with_heads
from jaxmeta.multitask.per_task import columns, per_task, statistics_per_task
from jaxmeta.nn import Use, assembled, mlp
from jaxmeta.types import Array, Model, Tasked


def gated_experts(
    levels: Sequence[Model], head: Model, tasks: int, shared: int = 2, own: int = 1
) -> Model:
    r"""Each task mixes experts that all tasks share with experts of its own.

    .. math:: x_t^{l + 1} = \sum_k \mathrm{softmax}(W_t^l \bar e)_k\; e_k, \qquad
              e = \big(e_1(x_s^l), \ldots, e_S(x_s^l),\; e_{t1}(x_t^l), \ldots, e_{tK}(x_t^l)\big)

    With one level this is customized gate control (CGC); with several, progressive layered
    extraction (PLE), where the shared experts of a further level see a mixture :math:`x_s` of their
    own. Two departures: gates see the mean :math:`\bar e` of the shared experts' outputs (over
    positions, if these are maps), as a gate on pixels learns little; and the mixture for shared
    experts has those of the batch's task only, not of all tasks.

    Args:
      levels: the network of an expert at each level, as in ``[conv4()]``.
      head: the head that each task gets, on the flattened mixture of the last level.
      tasks: number of tasks.
      shared: S, number of shared experts at each level.
      own: K, number of experts of each task at each level.

    Returns:
      A model as of :func:`jaxmeta.multitask.with_heads`, whose encoder has the parameters
      ``{"shared0", "own0", "gate0", ...}``, and ``"shared_gate0"`` if there is another level.

    Raises:
      ValueError: a count is not a positive integer, there is no level, or as for
        :func:`jaxmeta.multitask.with_heads`.

    References:
      Tang, Liu, Zhao and Gong, 2020, Progressive Layered Extraction (PLE): A Novel Multi-Task
      Learning Model for Personalized Recommendations.

    >>> network = gated_experts([mlp(8)], mlp(2, hidden=()), tasks=3)
    >>> x = Tasked(jnp.ones((4, 5)), jnp.full(4, 1))
    >>> params, state = network.init(jax.random.key(0), x)
    >>> network.apply(params, state, x)[0].shape
    (4, 2)
    """
    check_stages(levels)
    for name, count in {"shared": shared, "own": own}.items():
        check_count(name, count, least=1)
    gate = mlp(shared + own, hidden=())

    def forward(use: Use, x: Tasked) -> Array:
        common, special, task = x.x, x.x, x.task
        for i, expert in enumerate(levels):
            of_all = statistics_per_task(_several(expert, shared), tasks)
            of_task = per_task(_several(expert, own), tasks)
            first = use(f"shared{i}", of_all, Tasked(common, task))
            outputs = jnp.concatenate([first, use(f"own{i}", of_task, Tasked(special, task))], 1)
            seen = Tasked(jnp.mean(first, axis=range(1, first.ndim - 1)), task)
            special = _mixed(outputs, use(f"gate{i}", per_task(gate, tasks), seen))
            if i + 1 < len(levels):
                weights = use(f"shared_gate{i}", gate, seen.x)
                common = _mixed(outputs, weights)
        return special

    return with_heads(assembled(forward), head, tasks)


def _several(expert: Model, count: int) -> Model:
    """The outputs ``[n, count, ...]`` of several networks for the same inputs."""

    def forward(use: Use, x: Array) -> Array:
        each = jax.tree.map(lambda leaf: jnp.stack([leaf] * count), x)
        return use("experts", columns(expert, count), each).swapaxes(0, 1)

    return assembled(forward)


def _mixed(outputs: Array, logits: Array) -> Array:
    """Outputs ``[n, k, ...]`` weighted by the softmax of logits ``[n, k]``."""
    weights = jnp.expand_dims(jax.nn.softmax(logits), range(2, outputs.ndim))
    return jnp.sum(weights * outputs, axis=1)
