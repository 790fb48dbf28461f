"""Cross-stitch networks: a column for each task, which see each other after every stage."""

from collections.abc import Sequence

import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.multitask.heads import check_stages, with_heads
from jaxmeta.multitask.per_task import columns, statistics_per_task
from jaxmeta.nn import Use, assembled
from jaxmeta.types import Array, Key, Model, PyTree, Tasked


def cross_stitch(stages: Sequence[Model], head: Model, tasks: int, own: float = 0.9) -> Model:
    r"""Columns that are mixed after every stage by learned matrices A.

    .. math:: x_t^{l + 1} = \sum_s A^l_{ts}\, f_{\theta_s^l}(x_s^l)

    Every column is computed for every input, so a step costs as much as all tasks together: it is
    for few tasks. With A the identity it is one network for each task.

    Args:
      stages: parts of a column, one after the other, as in ``[conv_block(64)] * 4``.
      head: the head that each task gets, on the flattened outputs of the last stage.
      tasks: number of tasks and of columns.
      own: where the diagonals of A start; the rest of 1 is spread over the other columns.

    Returns:
      A model as of :func:`jaxmeta.multitask.with_heads`, whose encoder has the parameters
      ``{"columns0", "stitch0", ...}``.

    Raises:
      ValueError: there is no stage, or as for :func:`jaxmeta.multitask.with_heads`.

    References:
      Misra, Shrivastava, Gupta and Hebert, 2016, Cross-stitch Networks for Multi-task Learning,
      equation 1.

    >>> import jax
    >>> from jaxmeta.nn import mlp
    >>> network = cross_stitch([mlp(8), mlp(8)], mlp(2, hidden=()), tasks=2)
    >>> x = Tasked(jnp.ones((4, 5)), jnp.full(4, 1))
    >>> params, state = network.init(jax.random.key(0), x)
    >>> network.apply(params, state, x)[0].shape
    (4, 2)
    """
    check_stages(stages)
    check_count("tasks", tasks, least=1)
    stitch = _stitch(tasks, own)

    def all_columns(use: Use, x: Array) -> Array:
        outputs = jnp.stack([x] * tasks)
        for i, stage in enumerate(stages):
            outputs = use(f"columns{i}", columns(stage, tasks), outputs)
            outputs = use(f"stitch{i}", stitch, outputs)
        return outputs.swapaxes(0, 1)

    encoder = statistics_per_task(assembled(all_columns), tasks)
    return with_heads(_chosen(encoder), head, tasks)


def _stitch(tasks: int, own: float) -> Model:
    """The mixture ``[tasks, n, ...]`` of columns ``[tasks, n, ...]``."""

    def init(key: Key, x: Array) -> tuple[PyTree, PyTree]:
        others = (1 - own) / max(tasks - 1, 1)
        start = jnp.full((tasks, tasks), others, jnp.float32)
        return jnp.fill_diagonal(start, own, inplace=False), {}

    def apply(
        params: PyTree,
        state: PyTree,
        x: Array,
        mask: Array | None = None,
        key: Key | None = None,
        batch_statistics: bool = True,
    ) -> tuple[Array, PyTree]:
        return jnp.tensordot(params.astype(x.dtype), x, 1), state

    return Model(init, apply)


def _chosen(encoder: Model) -> Model:
    """The outputs ``[n, tasks, ...]`` of a model, of each example's task only."""

    def apply(
        params: PyTree,
        state: PyTree,
        x: Tasked,
        mask: Array | None = None,
        key: Key | None = None,
        batch_statistics: bool = True,
    ) -> tuple[Array, PyTree]:
        outputs, used = encoder.apply(params, state, x, mask, key, batch_statistics)
        return outputs[jnp.arange(x.task.size), x.task], used

    return Model(encoder.init, apply)
