"""DINO: a student's distribution over prototypes follows that of a centered, sharpened teacher."""

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count, check_positive
from jaxmeta.learners.frames.support import cosine_similarities
from jaxmeta.losses import masked_mean
from jaxmeta.nn import chained, from_functions
from jaxmeta.nn.layers import widened
from jaxmeta.pretraining.joint_embedding import view_metrics, views_of
from jaxmeta.pretraining.shapes import check_shapes
from jaxmeta.pretraining.teacher import Momentum, following, new_teacher, student_and_teacher
from jaxmeta.types import Array, Batch, Key, Model, Objective, PyTree, Report


def dino(
    model: Model,
    projector: Model,
    *,
    prototypes: int = 4096,
    momentum: Momentum = 0.996,
    temperature: float = 0.1,
    teacher_temperature: float = 0.04,
    decay: float = 0.9,
) -> Objective:
    r"""Matching the teacher's prototype distribution for the other view, by :func:`dino_loss`.

    The outputs are cosines of the projected features with learned prototypes,
    :math:`s_k = \cos(g(f(x)), w_k)`. The center, a running mean of the teacher's outputs, keeps the
    images from all sharing one prototype; the teacher's low temperature keeps each image from using
    all prototypes equally.

    Args:
      model: the encoder f.
      projector: the network g on top of it; a :func:`jaxmeta.nn.projector`.
      prototypes: number of prototypes.
      momentum: the share of itself that the teacher keeps at each step, or a schedule of it.
      temperature: of the student.
      teacher_temperature: of the teacher.
      decay: decay of the running averages of statistics, and of the center.

    Returns:
      An objective over batches of two views, with parameters
      ``{"model", "projector", "prototypes"}``. Its state holds their statistics under the same
      names, a :class:`~jaxmeta.pretraining.teacher.Teacher` under ``"teacher"``, and the
      ``"center"``. It reports the metrics of :func:`jaxmeta.pretraining.joint_embedding` for the
      teacher's cosines.

    Raises:
      ValueError: there are no prototypes, a temperature is not positive, a share is outside
        [0, 1] or, when called, the task is not a batch of two views.

    References:
      Caron et al., 2021, Emerging Properties in Self-Supervised Vision Transformers, section 3.1
      and algorithm 1. There are two views and no multi-crop, the teacher's temperature is not
      warmed up, and the prototypes are trained from the first step on.

    >>> from jaxmeta.nn import conv4, projector
    >>> objective = dino(conv4(), projector(64, hidden=[512]), prototypes=512)
    """
    check_count("prototypes", prototypes, least=1)
    check_positive("temperature", temperature)
    check_positive("teacher_temperature", teacher_temperature)
    network = chained(model=model, projector=projector, prototypes=_cosines(prototypes))

    def init(key: Key, batch: Batch) -> tuple[PyTree, PyTree]:
        params, state = network.init(key, views_of(batch)[0])
        center = jnp.zeros(prototypes, jnp.float32)
        return params, {**state, "teacher": new_teacher(params, state), "center": center}

    def task_loss(params: PyTree, state: PyTree, batch: Batch, key: Key) -> tuple[Array, Report]:
        outputs, targets, statistics = student_and_teacher(network, params, state, batch, key)
        first, second = targets
        weights = batch.mask / jnp.maximum(jnp.sum(batch.mask), 1)
        statistics["center"] = weights @ (first + second) / 2

        def apart(student: Array, teacher: Array) -> Array:
            return dino_loss(
                student, teacher, state["center"], batch.mask, temperature, teacher_temperature
            )

        value = (apart(outputs[0], second) + apart(outputs[1], first)) / 2
        return value, Report(statistics, view_metrics(targets, batch.mask))

    return Objective(init, task_loss, following(momentum, decay))


def dino_loss(
    student: Array,
    teacher: Array,
    center: Array,
    mask: Array,
    temperature: float = 0.1,
    teacher_temperature: float = 0.04,
) -> Array:
    r"""The cross-entropy of the student's distribution under the teacher's, in nats.

    .. math:: -\frac1n \sum_i \sum_k \mathrm{softmax}\Big(\frac{t_i - c}{\tau_t}\Big)_k
              \log \mathrm{softmax}\Big(\frac{s_i}{\tau_s}\Big)_k

    Args:
      student: s, ``[n, k]``.
      teacher: t, ``[n, k]``; gradients pass through it unless they are stopped.
      center: c, ``[k]``, subtracted from the teacher's outputs.
      mask: ``[n]``; padding is ignored.
      temperature: of the student.
      teacher_temperature: of the teacher.

    Raises:
      ValueError: the shapes differ from these.

    References:
      Caron et al., 2021, equations 1 to 4.

    >>> alike = jnp.ones((3, 8))
    >>> jnp.exp(dino_loss(alike, alike, jnp.zeros(8), jnp.ones(3))).round(4).item()
    8.0
    """
    check_shapes(
        "student [n, k], teacher [n, k], center [k] and mask [n]", student, teacher, center, mask
    )
    student, teacher = widened(student), widened(teacher)
    target = jax.nn.softmax((teacher - center[None]) / teacher_temperature)
    return -masked_mean(jnp.sum(target * jax.nn.log_softmax(student / temperature), axis=1), mask)


def _cosines(outputs: int) -> Model:
    """Cosines ``[n, outputs]`` of features with learned directions."""
    normal = jax.nn.initializers.normal(1.0)
    return from_functions(
        lambda key, x: normal(key, (outputs, x.shape[-1]), jnp.float32),
        lambda directions, x: cosine_similarities(x, directions),
    )
