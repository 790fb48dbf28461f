"""A teacher: the moving average of a network's parameters, which no gradient reaches."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.objectives import running_average
from jaxmeta.pretraining.joint_embedding import outputs_of
from jaxmeta.types import Array, Batch, Key, Model, PyTree

Momentum = float | Callable[[Array], Array]
"""The share of itself that a teacher keeps at each step, or ``(step) -> share``."""


class Teacher(NamedTuple):
    """A moving average of the student, updated once a step after the student's parameters.

    Attributes:
      params: moving average of the parameters of the student's network.
      state: the teacher's own running averages of statistics, which are not the student's.
      step: int32, the number of steps taken.
    """

    params: PyTree
    state: PyTree
    step: Array


def new_teacher(params: PyTree, state: PyTree) -> Teacher:
    """A teacher equal to its student.

    >>> new_teacher({"w": jnp.ones(2)}, {}).step.item()
    0
    """
    return Teacher(params, state, jnp.zeros((), jnp.int32))


def follow(teacher: Teacher, params: PyTree, state: PyTree, momentum: Momentum) -> Teacher:
    r"""The teacher one step later: :math:`\xi \leftarrow \xi + (1 - m)(\theta - \xi)`.

    In this form, equal parameters stay equal to the bit.

    Args:
      teacher: the teacher before the step.
      params: the student's parameters, theta.
      state: the teacher's new averages.
      momentum: m, or a schedule of it.

    >>> teacher = new_teacher(jnp.zeros(()), ())
    >>> follow(teacher, jnp.ones(()), (), momentum=0.75).params.item()
    0.25
    """
    share = momentum(teacher.step) if callable(momentum) else momentum
    moved = jax.tree.map(
        lambda old, new: old + (1 - jnp.asarray(share, old.dtype)) * (new - old),
        teacher.params,
        params,
    )
    return Teacher(moved, state, teacher.step + 1)


def student_and_teacher(
    network: Model, params: PyTree, state: PyTree, batch: Batch, key: Key
) -> tuple[tuple[Array, Array], tuple[Array, Array], PyTree]:
    """The outputs of a network and of its teacher for both views, and the statistics of both.

    Args:
      network: the network of both.
      params: the student's parameters.
      state: the student's state, with its ``"teacher"``.
      batch: a batch of two views.
      key: randomness, such as dropout.

    Returns:
      ``(outputs, targets, statistics)``; no gradient passes through the targets.
    """
    student_key, teacher_key = jax.random.split(key)
    outputs, statistics = outputs_of(network.apply, params, state, batch, student_key)
    teacher = state["teacher"]
    targets, statistics["teacher"] = outputs_of(
        network.apply, teacher.params, teacher.state, batch, teacher_key
    )
    return outputs, jax.lax.stop_gradient(targets), statistics


def following(
    momentum: Momentum, decay: float
) -> Callable[[PyTree, PyTree, PyTree], dict[str, Any]]:
    """An objective's ``update`` of a student and its teacher.

    Args:
      momentum: the teacher's momentum.
      decay: decay of the running averages of both.

    Returns:
      ``(state, params, statistics) -> state``. The states and the statistics have a ``"teacher"``,
      whose network has some of the student's parts, under the same names.

    Raises:
      ValueError: a share is outside [0, 1].
    """
    check_momentum(momentum)
    average = running_average(decay)

    def update(state: PyTree, params: PyTree, statistics: PyTree) -> dict[str, Any]:
        own, seen = dict(state), dict(statistics)
        teacher, of_teacher = own.pop("teacher"), seen.pop("teacher")
        taught = {name: params[name] for name in teacher.params}
        averages = average(teacher.state, params, of_teacher)
        return {
            **average(own, params, seen),
            "teacher": follow(teacher, taught, averages, momentum),
        }

    return update


def check_momentum(momentum: Any) -> None:
    """Raises ``ValueError`` unless a momentum is a function or a number from 0 to 1."""
    number = isinstance(momentum, int | float) and 0 <= momentum <= 1
    if not callable(momentum) and not number:
        raise ValueError(
            f"momentum is {momentum!r}: give the share, from 0 to 1, that a teacher keeps in a "
            "step, or a function of the step."
        )


def rising(start: float, steps: int) -> Callable[[Array], Array]:
    r"""A momentum that rises to 1 along a cosine: :math:`1 - (1 - m_0) (1 + \cos(\pi t / T)) / 2`.

    Args:
      start: :math:`m_0`, from 0 to 1.
      steps: T, the number of steps of the run.

    Raises:
      ValueError: ``start`` is outside [0, 1], or ``steps`` is not positive.

    References:
      Grill et al., 2020, Bootstrap Your Own Latent, section 3.3.

    >>> momentum = rising(0.99, steps=100)
    >>> [round(momentum(jnp.int32(step)).item(), 4) for step in (0, 50, 100)]
    [0.99, 0.995, 1.0]
    """
    if not 0 <= start <= 1:
        raise ValueError(f"start is {start}: give the momentum of the first step, from 0 to 1.")
    check_count("steps", steps, least=1)

    def momentum(step: Array) -> Array:
        share = jnp.minimum(step.astype(jnp.float32) / steps, 1)
        return 1 - (1 - start) * (1 + jnp.cos(jnp.pi * share)) / 2

    return momentum
