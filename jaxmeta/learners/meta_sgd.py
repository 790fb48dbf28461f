"""Meta-SGD: learn where to start, which way to go, and how far."""

from jaxmeta.inner import learning_rates, sgd, unroll
from jaxmeta.learners.frames.gradient import gradient_learner
from jaxmeta.losses import cross_entropy
from jaxmeta.types import Learner, Loss, Model


def meta_sgd(
    model: Model,
    ways: int | None = None,
    *,
    steps: int = 1,
    learning_rate: float = 0.01,
    first_order: bool = False,
    loss: Loss = cross_entropy,
    normalization: str = "transductive",
) -> Learner:
    r"""Meta-SGD: MAML with a meta-learned step size for each parameter.

    .. math:: \theta_{t+1} = \theta_t - \alpha \circ \nabla L(\theta_t;\, \text{support})

    where the outer loop learns theta_0 and alpha, which has the shapes of the parameters.

    Args:
      model: its outputs are logits ``[n, ways]``, or regression values.
      ways: largest number of classes; ``None`` for regression.
      steps: inner steps.
      learning_rate: initial value of each entry of alpha; nothing keeps them positive.
      first_order: drop second derivatives of the loss; alpha still learns.
      loss: the loss of the support set.
      normalization: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page.

    Returns:
      A learner with parameters ``{"model": ..., "hyper": alpha}``.

    Raises:
      ValueError: as for :func:`jaxmeta.learners.gradient_learner`.

    References:
      Li, Zhou, Chen and Li, 2017, Meta-SGD, equation 2 and algorithm 1.

    >>> import jax, jax.numpy as jnp
    >>> from jaxmeta.nn import mlp
    >>> from jaxmeta.types import Batch, Episode
    >>> learner = meta_sgd(mlp(5, hidden=(8,)), ways=5)
    >>> batch = Batch(jnp.ones((5, 6)), jnp.arange(5), jnp.ones(5))
    >>> params, _ = jax.eval_shape(learner.init, jax.random.key(0), Episode(batch, batch))
    >>> params["hyper"]["layer0"]["kernel"].shape  # a rate for each weight
    (6, 8)
    """
    rates = learning_rates(learning_rate, "parameter")
    inner = unroll(sgd, steps, hyper=rates, first_order=first_order)
    return gradient_learner(model, inner, ways, loss=loss, normalization=normalization)
