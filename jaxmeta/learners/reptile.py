"""Reptile's learner: a few steps of gradient descent on minibatches of the task."""

import optax

from jaxmeta.inner import unroll
from jaxmeta.learners.frames.gradient import gradient_learner
from jaxmeta.losses import cross_entropy
from jaxmeta.types import Learner, Loss, Model


def reptile(
    model: Model,
    ways: int | None = None,
    *,
    steps: int = 5,
    learning_rate: float = 0.1,
    batch: int | None = 10,
    loss: Loss = cross_entropy,
    normalization: str = "transductive",
) -> Learner:
    r"""Reptile: an initialization that lies near the solutions of all tasks.

    A task is solved by steps of gradient descent, each on a part of its support set.
    Meta-train with :func:`jaxmeta.objectives.reptile`, which moves the initialization towards the
    parameters that the steps reach; no gradient flows through the steps.

    Args:
      model: its outputs are logits ``[n, ways]``, or regression values.
      ways: largest number of classes; ``None`` for regression.
      steps: inner steps; in evaluation usually more than in training.
      learning_rate: inner learning rate.
      batch: number of support examples drawn for each step; ``None`` uses all.
      loss: the loss of the support set.
      normalization: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page.

    Returns:
      A learner with parameters ``{"model": ..., "hyper": ()}``.

    Raises:
      ValueError: as for :func:`jaxmeta.learners.gradient_learner`.

    References:
      Nichol, Achiam and Schulman, 2018, On First-Order Meta-Learning Algorithms, algorithm 1;
      their experiments use Adam; see the method's page.

    >>> from jaxmeta import objectives
    >>> from jaxmeta.losses import cross_entropy
    >>> from jaxmeta.nn import conv4
    >>> objective = objectives.reptile(reptile(conv4(5), ways=5), cross_entropy)
    """
    inner = unroll(optax.sgd(learning_rate), steps, first_order=True)
    return gradient_learner(model, inner, ways, loss=loss, normalization=normalization, batch=batch)
