"""A head for each task, on features that may depend on the task."""

from collections.abc import Sequence

from jaxmeta.multitask.per_task import per_task
from jaxmeta.nn import Use, assembled
from jaxmeta.types import Array, Model, Tasked


def with_heads(encoder: Model, head: Model, tasks: int) -> Model:
    r"""A network with a head of its own for each task: :math:`f(x, t) = h_t(g(x, t))`.

    Args:
      encoder: the features g, from :class:`~jaxmeta.types.Tasked` inputs to ``[n, ...]``, which are
        flattened to ``[n, d]``.
      head: the head that each task gets, ``[n, d]`` to ``[n, classes]``.
      tasks: number of tasks.

    Returns:
      A model over :class:`~jaxmeta.types.Tasked` inputs of one task, with parameters and state
      ``{"encoder", "heads"}``.

    Raises:
      ValueError: ``tasks`` is not a positive integer or, when called, the inputs name no task.

    >>> from jaxmeta.nn import mlp
    >>> network = with_heads(per_task(mlp(8), 3), mlp(2, hidden=()), 3)
    """
    heads = per_task(head, tasks)

    def forward(use: Use, x: Tasked) -> Array:
        return use("heads", heads, Tasked(flat(use("encoder", encoder, x)), x.task))

    return assembled(forward)


def flat(features: Array) -> Array:
    """Features ``[n, d]`` from maps ``[n, ...]``."""
    return features.reshape(features.shape[0], -1)


def check_stages(stages: Sequence[Model]) -> None:
    """Raises ``ValueError`` unless there are stages."""
    if isinstance(stages, Model) or not stages:
        raise ValueError(f"stages is {stages!r}: give a list of models, at least one.")
