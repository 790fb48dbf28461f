"""The LSTM meta-learner: an LSTM whose memory is the parameters that it updates."""

from jaxmeta.inner import coordinate_gates, gated, unroll
from jaxmeta.learners.frames.gradient import gradient_learner
from jaxmeta.losses import cross_entropy
from jaxmeta.types import Learner, Loss, Model


def lstm_meta_learner(
    model: Model,
    ways: int | None = None,
    *,
    steps: int = 12,
    hidden: int = 20,
    loss: Loss = cross_entropy,
    normalization: str = "transductive",
) -> Learner:
    r"""The LSTM meta-learner: learns where to start, and a rule of how to go on.

    .. math:: \theta_{t+1} = (1 - d_t) \odot \theta_t - r_t \odot
              \nabla L(\theta_t;\, \text{support})

    where one LSTM, the same for all parameters, chooses the step size r and the decay d of each
    parameter from its gradient, its value and the loss; see :func:`jaxmeta.inner.coordinate_gates`.
    Inner gradients and losses are constants for the outer loop.

    Args:
      model: its outputs are logits ``[n, ways]``, or regression values.
      ways: largest number of classes; ``None`` for regression.
      steps: inner steps.
      hidden: size of the LSTM.
      loss: the loss of the support set.
      normalization: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page. The
        authors train with the first and evaluate with the second.

    Returns:
      A learner with parameters ``{"model": ..., "hyper": ...}``.

    Raises:
      ValueError: as for :func:`jaxmeta.learners.gradient_learner` and
        :func:`jaxmeta.inner.coordinate_gates`.

    References:
      Ravi and Larochelle, 2017, Optimization as a Model for Few-Shot Learning, algorithm 1.

    >>> from jaxmeta.nn import mlp
    >>> learner = lstm_meta_learner(mlp(5, hidden=(8,)), ways=5)
    """
    inner = unroll(gated(coordinate_gates(hidden)), steps, first_order=True)
    return gradient_learner(model, inner, ways, loss=loss, normalization=normalization)
