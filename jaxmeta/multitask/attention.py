"""The multi-task attention network: every task looks at its own part of shared maps."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.multitask.heads import check_stages, with_heads
from jaxmeta.multitask.per_task import per_task, statistics_per_task
from jaxmeta.nn import Use, assembled
from jaxmeta.nn.layers import dense, init_dense
from jaxmeta.types import Array, Key, Model, PyTree, Tasked


def task_attention(stages: Sequence[Model], head: Model, tasks: int, hidden: int = 32) -> Model:
    r"""Shared stages, whose maps u are masked for each task.

    .. math:: a_t^l = \mathrm{sigmoid}\big(W_t^l\, \sigma(V_t^l [u^l, c^l])\big) \odot u^l,
              \qquad c^l = f^l(a_t^{l - 1})

    The masks are computed position by position, and f are further shared stages, which take the
    masked maps of one stage to the size of the next. There is no normalization within the masks,
    where the paper has some.

    Args:
      stages: the shared network, one part after the other, as in ``[conv_block(64)] * 4``.
      head: the head that each task gets, on the flattened last masked maps.
      tasks: number of tasks.
      hidden: channels between V and W.

    Returns:
      A model as of :func:`jaxmeta.multitask.with_heads`, whose encoder has the parameters
      ``{"stage0", "mask0", "stage1", "carry1", "mask1", ...}``.

    Raises:
      ValueError: ``hidden`` is not a positive integer, there is no stage, or as for
        :func:`jaxmeta.multitask.with_heads`.

    References:
      Liu, Johns and Davison, 2019, End-to-End Multi-Task Learning with Attention, equations 1 to 2.

    >>> from jaxmeta.nn import conv_block, mlp
    >>> network = task_attention([conv_block(4)] * 2, mlp(2, hidden=()), tasks=3)
    >>> x = Tasked(jnp.ones((4, 8, 8, 1)), jnp.full(4, 1))
    >>> params, state = network.init(jax.random.key(0), x)
    >>> network.apply(params, state, x)[0].shape
    (4, 2)
    """
    check_stages(stages)
    check_count("hidden", hidden, least=1)

    def forward(use: Use, x: Tasked) -> Array:
        maps, task = x.x, x.task
        masked: Any = None
        for i, stage in enumerate(stages):
            of_all = statistics_per_task(stage, tasks)
            maps = use(f"stage{i}", of_all, Tasked(maps, task))
            seen = maps
            if masked is not None:
                carried = use(f"carry{i}", of_all, Tasked(masked, task))
                seen = jnp.concatenate([maps, carried], axis=-1)
            mask = per_task(_mask(hidden, maps.shape[-1]), tasks)
            masked = use(f"mask{i}", mask, Tasked(seen, task)) * maps
        return masked

    return with_heads(assembled(forward), head, tasks)


def _mask(hidden: int, channels: int) -> Model:
    """Numbers from 0 to 1 for each position, from the channels there."""

    def init(key: Key, x: Array) -> tuple[PyTree, PyTree]:
        keys = jax.random.split(key)
        first = init_dense(keys[0], x.shape[-1], hidden)
        return {"hidden": first, "head": init_dense(keys[1], hidden, channels)}, {}

    def apply(
        params: PyTree,
        state: PyTree,
        x: Array,
        mask: Array | None = None,
        key: Key | None = None,
        batch_statistics: bool = True,
    ) -> tuple[Array, PyTree]:
        hidden = jax.nn.relu(dense(params["hidden"], x))
        return jax.nn.sigmoid(dense(params["head"], hidden)), state

    return Model(init, apply)
