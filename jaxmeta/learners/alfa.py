"""ALFA: MAML whose step sizes and weight decays a small network chooses for each task and step."""

from jaxmeta.checks import check_count, check_positive
from jaxmeta.inner import gated, layer_gates, unroll
from jaxmeta.learners.frames.gradient import gradient_learner
from jaxmeta.learners.maml_plus_plus import NORMALIZATION_WEIGHTS
from jaxmeta.losses import cross_entropy
from jaxmeta.types import Learner, Loss, Model


def alfa(
    model: Model,
    ways: int | None = None,
    *,
    steps: int = 5,
    learning_rate: float = 0.01,
    weight_decay: float = 5e-4,
    first_order: bool = False,
    loss: Loss = cross_entropy,
    normalization: str = "transductive",
) -> Learner:
    r"""ALFA: inner steps with rates and decays of each layer that depend on the task.

    .. math:: \theta_{l,t+1} = (1 - d_{l,t})\, \theta_{l,t} - r_{l,t}
              \nabla_l L(\theta_t;\, \text{support})

    for each parameter array l. A network scales r and d by what it reads of the means of all arrays
    and of their gradients; see :func:`jaxmeta.inner.layer_gates`. It starts as MAML with weight
    decay. Normalization weights are learned by the outer loop alone.

    Args:
      model: its outputs are logits ``[n, ways]``, or regression values.
      ways: largest number of classes; ``None`` for regression.
      steps: inner steps.
      learning_rate: initial step size.
      weight_decay: initial decay, as a multiple of the step size.
      first_order: drop second derivatives of the loss; the network still learns.
      loss: the loss of the support set.
      normalization: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page.

    Returns:
      A learner with parameters ``{"model": ..., "hyper": ...}``.

    Raises:
      ValueError: ``learning_rate`` is not positive, ``weight_decay`` negative or too large, or as
        for :func:`jaxmeta.learners.gradient_learner`.

    References:
      Baik, Choi, Choi, Kim and Lee, 2020, Meta-Learning with Adaptive Hyperparameters, equations 2
      and 3.

    >>> from jaxmeta.nn import mlp
    >>> learner = alfa(mlp(5, hidden=(8,)), ways=5)
    """
    check_count("steps", steps)
    check_positive("learning_rate", learning_rate)
    if not 0 <= weight_decay * learning_rate < 1:
        raise ValueError(
            f"weight_decay is {weight_decay}: give a number from 0 up to below 1 / learning_rate."
        )
    gates = layer_gates(max(steps, 1), learning_rate, weight_decay * learning_rate)
    return gradient_learner(
        model,
        unroll(gated(gates), steps, first_order=first_order),
        ways,
        loss=loss,
        normalization=normalization,
        fast=lambda name: name.rpartition("/")[2] not in NORMALIZATION_WEIGHTS,
    )
