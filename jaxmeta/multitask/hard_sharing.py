"""Hard sharing: one network for all tasks, with a head for each."""

from jaxmeta.multitask.heads import with_heads
from jaxmeta.multitask.per_task import statistics_per_task
from jaxmeta.types import Model


def hard_sharing(features: Model, head: Model, tasks: int) -> Model:
    r"""Features that all tasks share, and a head for each: :math:`f(x, t) = h_t(g(x))`.

    Args:
      features: the network g, ``[n, ...]`` to ``[n, d]``.
      head: the head that each task gets, ``[n, d]`` to ``[n, classes]``.
      tasks: number of tasks.

    Returns:
      A model over :class:`~jaxmeta.types.Tasked` inputs of one task, with parameters and state
      ``{"encoder", "heads"}``. Statistics are kept for each task.

    Raises:
      ValueError: ``tasks`` is not a positive integer or, when called, the inputs name no task.

    References:
      Caruana, 1997, Multitask Learning.

    >>> import jax, jax.numpy as jnp
    >>> from jaxmeta.nn import mlp
    >>> from jaxmeta.types import Tasked
    >>> network = hard_sharing(mlp(8), mlp(2, hidden=()), tasks=3)
    >>> x = Tasked(jnp.ones((4, 5)), jnp.full(4, 1))
    >>> params, state = network.init(jax.random.key(0), x)
    >>> network.apply(params, state, x)[0].shape
    (4, 2)
    """
    return with_heads(statistics_per_task(features, tasks), head, tasks)
