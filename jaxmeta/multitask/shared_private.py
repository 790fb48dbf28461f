"""The shared-private network: features of all tasks beside those of one, kept apart."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.domains import reverse
from jaxmeta.learners.frames.support import labeled
from jaxmeta.losses import accuracy, cross_entropy
from jaxmeta.multitask.heads import flat
from jaxmeta.multitask.objective import check_batch
from jaxmeta.multitask.per_task import per_task, statistics_per_task
from jaxmeta.nn import Use, assembled
from jaxmeta.objectives import changes, running_average_of_tasks
from jaxmeta.types import Array, Batch, Key, Model, Objective, PyTree, Report, Tasked


def shared_private(shared: Model, private: Model, head: Model, tasks: int) -> Model:
    r"""Features that all tasks share beside those of a network of each task's own.

    .. math:: f(x, t) = h_t\big([S(x), P_t(x)]\big)

    Args:
      shared: the shared features S, ``[n, ...]`` to ``[n, d]`` once they are flattened.
      private: the network P that each task gets, ``[n, ...]`` to ``[n, e]``, likewise.
      head: the head that each task gets, ``[n, d + e]`` to ``[n, classes]``.
      tasks: number of tasks.

    Returns:
      A model over :class:`~jaxmeta.types.Tasked` inputs of one task, with the parameters
      ``{"shared", "private", "heads"}``.

    Raises:
      ValueError: ``tasks`` is not a positive integer or, when called, the inputs name no task.

    References:
      Liu, Qiu and Huang, 2017, Adversarial Multi-task Learning for Text Classification.

    >>> from jaxmeta.nn import mlp
    >>> network = shared_private(mlp(8), mlp(4), mlp(2, hidden=()), tasks=3)
    >>> x = Tasked(jnp.ones((4, 5)), jnp.full(4, 1))
    >>> params, state = network.init(jax.random.key(0), x)
    >>> network.apply(params, state, x)[0].shape
    (4, 2)
    """
    everything = _with_features(shared, private, head, tasks)

    def apply(
        params: PyTree,
        state: PyTree,
        x: Tasked,
        mask: Array | None = None,
        key: Key | None = None,
        batch_statistics: bool = True,
    ) -> tuple[Array, PyTree]:
        outputs: Any
        outputs, used = everything.apply(params, state, x, mask, key, batch_statistics)
        return outputs.logits, used

    return Model(everything.init, apply)


class Outputs(NamedTuple):
    """Logits ``[n, classes]``, and features ``[n, d]`` and ``[n, e]``."""

    logits: Array
    shared: Array
    private: Array


def _with_features(shared: Model, private: Model, head: Model, tasks: int) -> Model:
    """The network, which also returns its features."""
    of_all, of_task = statistics_per_task(shared, tasks), per_task(private, tasks)
    heads = per_task(head, tasks)

    def forward(use: Use, x: Tasked) -> Outputs:
        both = flat(use("shared", of_all, x)), flat(use("private", of_task, x))
        logits = use("heads", heads, Tasked(jnp.concatenate(both, axis=1), x.task))
        return Outputs(logits, *both)

    return assembled(forward)


def orthogonality(shared: Array, private: Array, mask: Array) -> Array:
    r"""How much the shared and the private features of a batch say the same.

    .. math:: \lVert S^\top P \rVert_F^2

    Args:
      shared: S ``[n, d]``.
      private: P ``[n, e]``.
      mask: ``[n]``.

    References:
      Liu, Qiu and Huang, 2017, Adversarial Multi-task Learning for Text Classification.

    >>> orthogonality(jnp.array([[1.0], [0.0]]), jnp.array([[0.0], [1.0]]), jnp.ones(2)).item()
    0.0
    """
    return jnp.sum(((shared * mask[:, None]).T @ private) ** 2)


def adversarial_sharing(
    shared: Model,
    private: Model,
    head: Model,
    critic: Model,
    tasks: int,
    *,
    adversary: float = 0.05,
    orthogonal: float = 0.01,
    decay: float = 0.9,
) -> Objective:
    r"""The shared-private network, with shared features from which a critic cannot tell the task.

    .. math:: L\big(f(x, t), y\big) + \lambda\, \ell_{\text{critic}}\big(c(S(x)), t\big)
              + \gamma\, \lVert S^\top P_t \rVert_F^2

    The critic minimizes its cross-entropy, whose gradient for S is reversed.

    Args:
      shared: as in :func:`shared_private`.
      private: as in :func:`shared_private`.
      head: as in :func:`shared_private`.
      critic: a network from the shared features to one logit for each task.
      tasks: number of tasks.
      adversary: lambda.
      orthogonal: gamma.
      decay: as in :func:`jaxmeta.multitask.multitask`.

    Returns:
      An objective with the parameters ``{"model", "critic"}``, the former those of
      :func:`shared_private`. It reports ``accuracy``, ``critic_accuracy`` (1 / tasks where the
      critic can tell nothing) and ``orthogonality``.

    Raises:
      ValueError: a weight is negative, or as for :func:`jaxmeta.multitask.multitask`.

    References:
      Liu, Qiu and Huang, 2017, Adversarial Multi-task Learning for Text Classification.

    >>> from jaxmeta.nn import mlp
    >>> objective = adversarial_sharing(mlp(8), mlp(4), mlp(2, hidden=()), mlp(3), tasks=3)
    """
    for name, weight in {"adversary": adversary, "orthogonal": orthogonal}.items():
        if not weight >= 0:
            raise ValueError(f"{name} is {weight}: give a number of 0 or more.")
    network = _with_features(shared, private, head, tasks)
    average = running_average_of_tasks(decay)

    def init(key: Key, batch: Batch) -> tuple[PyTree, PyTree]:
        check_batch(batch)
        model_key, critic_key = jax.random.split(key)
        params, state = network.init(model_key, batch.x)
        outputs: Any
        outputs, _ = network.apply(params, state, batch.x)
        of_critic, _ = critic.init(critic_key, outputs.shared)
        return {"model": params, "critic": of_critic}, {"model": state}

    def loss(params: PyTree, state: PyTree, batch: Batch, key: Key) -> tuple[Array, Report]:
        inputs = params["model"], state["model"], batch.x, batch.mask, key
        outputs: Any
        outputs, used = network.apply(*inputs)
        told, _ = critic.apply(params["critic"], {}, reverse(outputs.shared))
        if told.ndim != 2 or told.shape[1] != tasks:
            raise ValueError(
                f"The critic's outputs have shape {told.shape}: give it {tasks} outputs, one for "
                "each task."
            )
        overlap = orthogonality(outputs.shared, outputs.private, batch.mask)
        mask = labeled(batch)
        value = cross_entropy(outputs.logits, batch.y, mask)
        value += adversary * cross_entropy(told, batch.x.task, batch.mask) + orthogonal * overlap
        metrics = {
            "accuracy": accuracy(outputs.logits, batch.y, mask),
            "critic_accuracy": accuracy(told, batch.x.task, batch.mask),
            "orthogonality": overlap,
        }
        return value, Report(changes(state, {"model": used}), metrics)

    return Objective(init, loss, average)
