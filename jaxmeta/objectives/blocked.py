"""A model that is useful, and that an adversary cannot make useful for what is harmful."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxmeta.blocking_losses import entropy_deficit
from jaxmeta.objectives.along import path_loss
from jaxmeta.objectives.on_part import on_part
from jaxmeta.types import Array, Carried, Key, Learner, Loss, Objective, PyTree, Report

DESIRED, HARMFUL = "desired", "harmful"
"""What the parts of a task are called."""


def blocked(
    objective: Objective,
    adversaries: Sequence[Learner],
    *,
    blocking: Loss = entropy_deficit,
    weight: float = 1.0,
    metrics: Mapping[str, Loss] | None = None,
) -> Objective:
    r"""A desired objective, and along the paths of adversaries a loss that wants them to fail.

    .. math:: \ell = L_{\text{desired}}(\theta) + c\, \operatorname*{mean}_{a,\; 0 \leq k \leq K_a}
              B\big(\mathrm{predict}(\theta_k^{(a)}, x_{\text{harmful}})\big)

    where adversary a goes from :math:`\theta_0 = \theta` to :math:`\theta_K` on a harmful support
    set. Adversaries without steps make it adversarial censoring. What it withstands is what
    :func:`jaxmeta.learners.attacks` has not broken, and no more.

    Args:
      objective: the desired one, over the part ``"desired"`` of a task. Its parameters hold the
        attacked ones under ``"model"``.
      adversaries: learners with a ``path`` that take only ``"model"`` from the parameters, such as
        :func:`jaxmeta.learners.adversary`; they see the part ``"harmful"``, an episode.
      blocking: the loss of their predictions on harmful queries, such as those of
        :mod:`jaxmeta.blocking_losses`.
      weight: c. With 0 this is the desired objective, and no adversary is computed.
      metrics: metrics of the harmful queries after the last step to report, by name.

    Returns:
      An objective over ``{"desired": ..., "harmful": Episode}``, as drawn by
      :func:`jaxmeta.data.paired`, with the parameters and state of ``objective``. Besides its
      metrics it reports ``blocking``, and ``metrics`` as in ``harmful_accuracy``.

    Raises:
      ValueError: there is no adversary, one has no path, or the weight is negative.

    References:
      Henderson et al., 2023, Self-Destructing Models: Increasing the Costs of Harmful Dual Uses of
      Foundation Models.

    >>> from jaxmeta.learners import adversary, fixed_classifier
    >>> from jaxmeta.losses import cross_entropy
    >>> from jaxmeta.nn import mlp
    >>> from jaxmeta.objectives import episodic
    >>> model, head = mlp(8), mlp(60, hidden=())
    >>> classifier = fixed_classifier(model, head, normalization="transductive")
    >>> desired = episodic(classifier, cross_entropy)  # of episodes without a support set
    >>> objective = blocked(desired, [adversary(model, ways=5, steps=4)])
    """
    if isinstance(adversaries, Learner):
        raise ValueError("adversaries is one learner: give a list of them, as in [adversary].")
    if not adversaries:
        raise ValueError("blocked got 0 adversaries: give at least one.")
    check_weight(weight)
    losses = [path_loss(adversary, blocking, _everywhere, metrics) for adversary in adversaries]
    own = on_part(objective, DESIRED)
    if weight == 0:
        return own

    def loss(params: PyTree, state: PyTree, task: Any, key: Key) -> tuple[Array, Report]:
        desired_key, harmful_key = jax.random.split(key)
        value, report = own.loss(params, state, task, desired_key)
        episode = harmful_part(task)
        reports = []
        for each, key in zip(losses, jax.random.split(harmful_key, len(losses)), strict=True):
            resisted, found = each(attacked(params), attacked_state(state), episode, key)
            named = {f"harmful_{name}": found.metrics[name] for name in metrics or ()}
            reports.append({"blocking": resisted, **named})
        mean = jax.tree.map(lambda *leaves: jnp.mean(jnp.stack(leaves)), *reports)
        total = value + weight * mean["blocking"]
        return total, report._replace(metrics={**report.metrics, **mean})

    return own._replace(loss=loss)


def check_weight(weight: float) -> None:
    """Raises ``ValueError`` unless the weight of a defense is 0 or more, and finite."""
    if not (isinstance(weight, int | float) and 0 <= weight < math.inf):
        raise ValueError(f"weight is {weight!r}: give a finite number, 0 or more.")


def _everywhere(state: PyTree, steps: int) -> Array:
    """The same weight before the first step and after each."""
    return jnp.full(steps + 1, 1 / (steps + 1), jnp.float32)


def harmful_part(task: Any) -> Any:
    """The harmful part of a task, whose desired part may carry something."""
    return (task.task if isinstance(task, Carried) else task)[HARMFUL]


def attacked(params: PyTree) -> PyTree:
    """What adversaries take from the parameters."""
    return {"model": params["model"]}


def attacked_state(state: PyTree) -> PyTree:
    """The model's part of a state that has several, or a state that has one."""
    return state["model"] if isinstance(state, dict) and "model" in state else state
