"""Booster: harmful training steps are to gain nothing."""

from typing import Any

import jax
import optax

from jaxmeta.checks import check_positive
from jaxmeta.losses import cross_entropy
from jaxmeta.objectives.blocked import (
    DESIRED,
    attacked,
    attacked_state,
    check_weight,
    harmful_part,
)
from jaxmeta.objectives.episodic import episodic
from jaxmeta.objectives.on_part import on_part
from jaxmeta.types import Array, Key, Learner, Loss, Objective, PyTree, Report


def booster(
    objective: Objective,
    adversary: Learner,
    *,
    loss: Loss = cross_entropy,
    step: float = 0.1,
    weight: float = 1.0,
) -> Objective:
    r"""A desired objective, and what one normalized step lowers the harmful loss by.

    .. math:: \ell = L_{\text{desired}}(\theta) + c \left[ L_h(\theta)
              - L_h\big(\theta - \alpha\, g / \lVert g \rVert\big) \right],
              \qquad g = \nabla L_h(\theta) \text{ held fixed}

    The cheapest defense: three gradients and no inner loop.

    Args:
      objective: the desired one, over the part ``"desired"`` of a task, with the attacked
        parameters under ``"model"``.
      adversary: a learner that takes only ``"model"`` from the parameters, such as
        :func:`jaxmeta.learners.prototypical`; it sees the part ``"harmful"``, an episode, and
        :math:`L_h` is the loss of its queries.
      loss: the harmful loss.
      step: alpha, the length of the step.
      weight: c.

    Returns:
      An objective like that of :func:`blocked`, which reports ``booster``, the gain of the step.

    Raises:
      ValueError: the step is not positive, or the weight is negative.

    References:
      Huang et al., 2024, Booster: Tackling Harmful Fine-tuning for Large Language Models via
      Attenuating Harmful Perturbation.

    >>> from jaxmeta.learners import prototypical
    >>> from jaxmeta.nn import mlp
    >>> from jaxmeta.pretraining import supervised
    >>> model = mlp(8)
    >>> objective = booster(supervised(model, classes=60), prototypical(model, ways=5))
    """
    check_positive("step", step)
    check_weight(weight)
    own, harmful = on_part(objective, DESIRED), episodic(adversary, loss)

    def task_loss(params: PyTree, state: PyTree, task: Any, key: Key) -> tuple[Array, Report]:
        desired_key, harmful_key = jax.random.split(key)
        value, report = own.loss(params, state, task, desired_key)

        def harm(params: PyTree) -> Array:
            given = (attacked_state(state), harmful_part(task), harmful_key)
            return harmful.loss(params, *given)[0]

        before, pull = jax.vjp(harm, attacked(params))
        (gradient,) = pull(jax.numpy.ones_like(before))
        length = optax.tree.norm(gradient)
        # A gradient of 0 has no direction, and stays where it is.
        share = step / jax.numpy.maximum(length, 1e-12)
        change = jax.lax.stop_gradient(jax.tree.map(lambda leaf: share * leaf, gradient))
        after = harm(jax.tree.map(lambda leaf, by: leaf - by, attacked(params), change))
        gained = before - after
        metrics = {**report.metrics, "booster": gained}
        return value + weight * gained, report._replace(metrics=metrics)

    return own._replace(loss=task_loss)
