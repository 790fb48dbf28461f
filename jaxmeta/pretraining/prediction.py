"""What methods that predict, from one view, an output for the other have in common."""

from collections.abc import Callable

import jax

from jaxmeta.nn import chained
from jaxmeta.objectives import running_average
from jaxmeta.pretraining.joint_embedding import outputs_of, view_metrics, views_of
from jaxmeta.pretraining.teacher import Momentum, following, new_teacher, student_and_teacher
from jaxmeta.types import Array, Batch, Key, Model, Objective, PyTree, Report

PredictionLoss = Callable[[Array, Array, Array], Array]
"""``(predictions [n, d], targets [n, d], mask [n]) -> scalar``."""


def prediction(
    model: Model,
    projector: Model,
    predictor: Model,
    loss: PredictionLoss,
    momentum: Momentum | None,
    decay: float = 0.9,
) -> Objective:
    r"""The loss of each view's prediction of the other view's target.

    .. math:: \ell\big(q(g(f(x))),\; \bar g(\bar f(x'))\big)
              + \ell\big(q(g(f(x'))),\; \bar g(\bar f(x))\big)

    where the targets come from a teacher or, without one, from the network itself, and no gradient
    passes through them.

    Args:
      model: the encoder f, which is kept after training.
      projector: the network g on top of it.
      predictor: the network q on top of that; only the student has one.
      loss: a function of predictions, targets and mask.
      momentum: the momentum of a teacher, whose parameters follow those of f and g; ``None`` for no
        teacher.
      decay: decay of the running averages of statistics; see
        :func:`jaxmeta.objectives.running_average`.

    Returns:
      An objective over batches of two views, with parameters
      ``{"model", "projector", "predictor"}``. Its state holds their statistics under the same names
      and a :class:`~jaxmeta.pretraining.teacher.Teacher` under ``"teacher"``. It reports the
      metrics of :func:`jaxmeta.pretraining.joint_embedding` for the targets.

    Raises:
      ValueError: the momentum or ``decay`` is outside [0, 1] or, when called, the task is not a
        batch of two views.

    >>> from jaxmeta.nn import mlp, projector
    >>> from jaxmeta.pretraining import byol_loss
    >>> objective = prediction(mlp(8), projector(4), projector(4), byol_loss, momentum=0.99)
    """
    network = chained(model=model, projector=projector)
    student = chained(model=model, projector=projector, predictor=predictor)
    update = running_average(decay) if momentum is None else following(momentum, decay)

    def init(key: Key, batch: Batch) -> tuple[PyTree, PyTree]:
        params, state = student.init(key, views_of(batch)[0])
        if momentum is not None:
            same = (
                {name: tree[name] for name in ("model", "projector")} for tree in (params, state)
            )
            state = {**state, "teacher": new_teacher(*same)}
        return params, state

    def task_loss(params: PyTree, state: PyTree, batch: Batch, key: Key) -> tuple[Array, Report]:
        key, predictor_key = jax.random.split(key)
        if momentum is None:
            projected, statistics = outputs_of(network.apply, params, state, batch, key)
            targets = jax.lax.stop_gradient(projected)
        else:
            projected, targets, statistics = student_and_teacher(network, params, state, batch, key)
        predicted, own = outputs_of(
            predictor.apply,
            params["predictor"],
            state["predictor"],
            batch._replace(x=projected),
            predictor_key,
        )
        statistics["predictor"] = own
        first, second = targets
        value = loss(predicted[0], second, batch.mask) + loss(predicted[1], first, batch.mask)
        return value, Report(statistics, view_metrics(targets, batch.mask))

    return Objective(init, task_loss, update)
