"""MoCo v2: contrast with a queue of a teacher's outputs for earlier batches."""

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count, check_positive
from jaxmeta.learners.frames.support import cosine_similarities, to_unit_length
from jaxmeta.losses import masked_mean
from jaxmeta.nn import chained
from jaxmeta.pretraining.joint_embedding import outputs_of, view_metrics, views_of
from jaxmeta.pretraining.shapes import check_shapes
from jaxmeta.pretraining.teacher import Momentum, following, new_teacher, student_and_teacher
from jaxmeta.types import Array, Batch, Carried, Key, Model, Objective, PyTree, Report


def moco_v2(
    model: Model,
    projector: Model,
    *,
    queue: int = 4096,
    momentum: Momentum = 0.99,
    temperature: float = 0.2,
    decay: float = 0.9,
) -> Objective:
    r"""Picking the teacher's projection of the other view among earlier ones, by :func:`moco_loss`.

    .. math:: \tfrac12 \ell(z, \bar z', Q') + \tfrac12 \ell(z', \bar z, Q)

    Each view has a queue of the teacher's projections of earlier batches, the latest first. The
    queues are carried by the task: each of the k batches of a step has its own, filled by the
    batches that were in its place before.

    Args:
      model: the encoder.
      projector: the network on top of it; a :func:`jaxmeta.nn.projector` of one hidden layer.
      queue: length of each queue, which starts with random directions.
      momentum: the share of itself that the teacher keeps at each step, or a schedule of it.
      temperature: tau, applied to the cosines.
      decay: decay of the running averages of statistics; see
        :func:`jaxmeta.objectives.running_average`.

    Returns:
      An objective over batches of two views, with parameters ``{"model", "projector"}``. Its state
      holds their statistics under the same names and a
      :class:`~jaxmeta.pretraining.teacher.Teacher` under ``"teacher"``. It reports the metrics of
      :func:`jaxmeta.pretraining.joint_embedding`.

    Raises:
      ValueError: the queue has no length, the temperature is not positive, a share is outside
        [0, 1] or, when called, the task is not a batch of two views or is longer than a queue.

    References:
      He et al., 2020, Momentum Contrast for Unsupervised Visual Representation Learning, algorithm
      1; Chen, Fan, Girshick and He, 2020, Improved Baselines with Momentum Contrastive Learning. A
      queue for each view and both directions follow solo-learn (da Costa et al., 2022).

    >>> from jaxmeta.nn import conv4, projector
    >>> objective = moco_v2(conv4(), projector(128), queue=1024)
    """
    check_count("queue", queue, least=1)
    check_positive("temperature", temperature)
    network = chained(model=model, projector=projector)

    def init(key: Key, batch: Batch) -> tuple[PyTree, PyTree]:
        params, state = network.init(key, views_of(batch)[0])
        return params, {**state, "teacher": new_teacher(params, state)}

    def begin(params: PyTree, state: PyTree, batch: Batch, key: Key) -> Array:
        if batch.mask.size > queue:
            raise ValueError(
                f"A batch has {batch.mask.size} examples and queue is {queue}: give a longer queue."
            )
        (outputs, _), _ = jax.eval_shape(
            lambda: outputs_of(network.apply, params, state, batch, key)
        )
        directions = jax.random.normal(key, (2, queue, outputs.shape[-1]), outputs.dtype)
        return jax.vmap(to_unit_length)(directions)

    def task_loss(params: PyTree, state: PyTree, task: Carried, key: Key) -> tuple[Array, Report]:
        batch, (first_queue, second_queue) = task.task, task.carry
        outputs, targets, statistics = student_and_teacher(network, params, state, batch, key)
        first, second = (to_unit_length(keys) for keys in targets)
        value = (
            moco_loss(outputs[0], second, second_queue, batch.mask, temperature)
            + moco_loss(outputs[1], first, first_queue, batch.mask, temperature)
        ) / 2
        pairs = (first, first_queue), (second, second_queue)
        queues = jnp.stack([enqueued(*pair, batch.mask) for pair in pairs])
        metrics = view_metrics(outputs, batch.mask)
        return value, Report(statistics, metrics, queues)

    return Objective(init, task_loss, following(momentum, decay), begin)


def enqueued(keys: Array, queue: Array, mask: Array) -> Array:
    """The queue ``[m, d]`` with the keys ``[n, d]`` in front, but for padding."""
    # A stable sort moves padding to the end, where it is cut off.
    padding = jnp.concatenate([mask == 0, jnp.zeros(queue.shape[0], bool)])
    order = jnp.argsort(padding, stable=True)[: queue.shape[0]]
    return jnp.concatenate([keys, queue])[order]


def moco_loss(
    queries: Array, keys: Array, queue: Array, mask: Array, temperature: float = 0.2
) -> Array:
    r"""The cross-entropy of picking each query's own key from among that key and a queue, in nats.

    .. math:: -\frac1n \sum_i \log \frac{e^{\cos(q_i, k_i) / \tau}}
              {e^{\cos(q_i, k_i) / \tau} + \sum_j e^{\cos(q_i, u_j) / \tau}}

    Args:
      queries: q, ``[n, d]``.
      keys: k, ``[n, d]``.
      queue: u, keys of other images ``[m, d]``.
      mask: ``[n]``; padding is ignored.
      temperature: tau.

    Raises:
      ValueError: the shapes differ from these.

    References:
      He et al., 2020, equation 1.

    >>> alike = jnp.ones((3, 2))
    >>> jnp.exp(moco_loss(alike, alike, jnp.ones((6, 2)), jnp.ones(3))).round(4).item()
    7.0
    """
    check_shapes(
        "queries [n, d], keys [n, d], queue [m, d] and mask [n]", queries, keys, queue, mask
    )
    own = jnp.sum(to_unit_length(queries) * to_unit_length(keys), axis=-1, keepdims=True)
    others = cosine_similarities(queries, queue)
    log_p = jax.nn.log_softmax(jnp.concatenate([own, others], axis=1) / temperature)
    return -masked_mean(log_p[:, 0], mask)
