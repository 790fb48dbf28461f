"""iMAML: implicit gradients through the minimum of a regularized inner loss."""

import optax

from jaxmeta.inner import implicit
from jaxmeta.learners.frames.gradient import gradient_learner
from jaxmeta.losses import cross_entropy
from jaxmeta.types import Learner, Loss, Model


def imaml(
    model: Model,
    ways: int | None = None,
    *,
    steps: int = 16,
    learning_rate: float = 0.05,
    penalty: float = 2.0,
    solver: str = "conjugate_gradient",
    solver_steps: int = 5,
    damping: float = 10.0,
    loss: Loss = cross_entropy,
    normalization: str = "transductive",
) -> Learner:
    r"""iMAML: adapt to a proximal minimum, and differentiate the minimum, not the steps to it.

    .. math:: \theta^* = \arg\min_\phi L(\phi;\, \text{support})
              + \frac\lambda2 \lVert \phi - \theta \rVert^2, \qquad
              \frac{d\theta^*}{d\theta}
              = \Big(I + \frac1\lambda \nabla^2 L(\theta^*)\Big)^{-1}

    See :func:`jaxmeta.inner.implicit`.

    Args:
      model: its outputs are logits ``[n, ways]``, or regression values.
      ways: largest number of classes; ``None`` for regression.
      steps: number of gradient steps on the regularized loss.
      learning_rate: size of these steps.
      penalty: lambda.
      solver: ``"conjugate_gradient"`` or ``"neumann"``.
      solver_steps: number of steps of the solver.
      damping: damping of the linear system; 0 gives the equation above. Networks need some; see
        :func:`jaxmeta.inner.implicit`.
      loss: the loss of the support set.
      normalization: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page.

    Returns:
      A learner with parameters ``{"model": ..., "hyper": ()}``.

    Raises:
      ValueError: as for :func:`jaxmeta.inner.implicit` and
        :func:`jaxmeta.learners.gradient_learner`.

    References:
      Rajeswaran, Finn, Kakade and Levine, 2019, Meta-Learning with Implicit Gradients.

    >>> from jaxmeta.nn import conv4
    >>> learner = imaml(conv4(5), ways=5)
    >>> learner.path is None  # only the minimum counts, not the path to it
    True
    """
    inner = implicit(
        optax.sgd(learning_rate),
        steps,
        penalty,
        solver=solver,
        solver_steps=solver_steps,
        damping=damping,
    )
    return gradient_learner(model, inner, ways, loss=loss, normalization=normalization)
