"""One network for all tasks, which are not told apart."""

from jaxmeta.multitask.per_task import check_tasked
from jaxmeta.nn import Use, assembled
from jaxmeta.types import Array, Model, Tasked


def one_network(model: Model) -> Model:
    r"""The same outputs whatever the task: :math:`f(x, t) = g(x)`.

    For tasks whose labels mean the same, such as good and bad reviews of many kinds of products.
    Such a network also predicts for tasks that it was not trained on.

    Args:
      model: the network g.

    Returns:
      A model over :class:`~jaxmeta.types.Tasked` inputs, with parameters and state ``{"model"}``.

    Raises:
      ValueError: when called, the inputs name no task.

    >>> import jax, jax.numpy as jnp
    >>> from jaxmeta.nn import mlp
    >>> network, x = one_network(mlp(2)), Tasked(jnp.ones((4, 5)), jnp.full(4, 1))
    >>> params, state = network.init(jax.random.key(0), x)
    >>> network.apply(params, state, x)[0].shape
    (4, 2)
    """

    def forward(use: Use, x: Tasked) -> Array:
        check_tasked(x)
        return use("model", model, x.x)

    return assembled(forward)
