"""MAML: learn where gradient descent on a task should start."""

from jaxmeta.inner import sgd, unroll
from jaxmeta.learners.frames.gradient import gradient_learner
from jaxmeta.losses import cross_entropy
from jaxmeta.types import Learner, Loss, Model


def maml(
    model: Model,
    ways: int | None = None,
    *,
    steps: int = 5,
    learning_rate: float = 0.01,
    first_order: bool = False,
    loss: Loss = cross_entropy,
    normalization: str = "transductive",
) -> Learner:
    r"""MAML: learn an initialization from which a few gradient steps solve a task.

    .. math:: \theta_{t+1} = \theta_t - \alpha \nabla L(\theta_t;\, \text{support})

    and the outer loop minimizes the query loss at :math:`\theta_T`, through these steps.

    Args:
      model: its outputs are logits ``[n, ways]``, or regression values.
      ways: largest number of classes; ``None`` for regression.
      steps: T, inner steps.
      learning_rate: alpha.
      first_order: drop second derivatives (first-order MAML).
      loss: the loss of the support set.
      normalization: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page.

    Returns:
      A learner with parameters ``{"model": ..., "hyper": ()}``.

    Raises:
      ValueError: as for :func:`jaxmeta.learners.gradient_learner`.

    References:
      Finn, Abbeel and Levine, 2017, equation 1 and section 5.2 (first order).

    >>> import jax, jax.numpy as jnp
    >>> from jaxmeta.losses import squared_error
    >>> from jaxmeta.nn import from_functions
    >>> from jaxmeta.types import Batch
    >>> slope = from_functions(lambda key, x: jnp.zeros((1, 1)), lambda w, x: x @ w)
    >>> learner = maml(slope, steps=2, learning_rate=0.25, loss=squared_error)
    >>> params, support = {"model": jnp.zeros((1, 1))}, Batch(*jnp.ones((2, 1, 1)), jnp.ones(1))
    >>> adapted, _ = learner.adapt(params, {}, support, jax.random.key(0))
    >>> adapted.fast.item()  # on the way from 0 to 1, halving the distance at each step
    0.75
    """
    inner = unroll(sgd(learning_rate), steps, first_order=first_order)
    return gradient_learner(model, inner, ways, loss=loss, normalization=normalization)
