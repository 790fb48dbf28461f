"""What methods that compare the embeddings of two views of the same images have in common."""

from collections.abc import Callable

import jax

from jaxmeta import diagnostics
from jaxmeta.nn import chained
from jaxmeta.objectives import running_average
from jaxmeta.types import Apply, Array, Batch, Key, Metrics, Model, Objective, PyTree, Report

PairLoss = Callable[[Array, Array, Batch], Array]
"""``(outputs [n, d] of the first view, outputs [n, d] of the second, batch) -> scalar``."""


def joint_embedding(
    model: Model, projector: Model, loss: PairLoss, decay: float = 0.9
) -> Objective:
    r"""A loss of the projected features of both views.

    .. math:: \ell\big(g(f(x)),\; g(f(x'))\big)

    Args:
      model: the encoder f, which is kept after training.
      projector: the network g on top of it, which is not.
      loss: a function of the two outputs and the batch.
      decay: decay of the running averages of statistics; see
        :func:`jaxmeta.objectives.running_average`.

    Returns:
      An objective over batches of two views, with parameters and state ``{"model", "projector"}``.
      Each view is normalized by its own statistics; the running averages follow their mean. It
      reports the metrics of :func:`view_metrics`.

    Raises:
      ValueError: ``decay`` is outside [0, 1] or, when called, the task is not a batch of two views.

    >>> from jaxmeta.nn import mlp, projector
    >>> def apart(first, second, batch):
    ...     return jax.numpy.mean((first - second) ** 2)
    >>> objective = joint_embedding(mlp(8), projector(4), apart)
    """
    network = chained(model=model, projector=projector)

    def init(key: Key, batch: Batch) -> tuple[PyTree, PyTree]:
        return network.init(key, views_of(batch)[0])

    def task_loss(params: PyTree, state: PyTree, batch: Batch, key: Key) -> tuple[Array, Report]:
        outputs, statistics = outputs_of(network.apply, params, state, batch, key)
        return loss(*outputs, batch), Report(statistics, view_metrics(outputs, batch.mask))

    return Objective(init, task_loss, running_average(decay))


def outputs_of(
    apply: Apply, params: PyTree, state: PyTree, batch: Batch, key: Key
) -> tuple[tuple[Array, Array], PyTree]:
    """The outputs of both views, each normalized by its own statistics, and the mean of these."""
    keys = jax.random.split(key)
    (first, one), (second, other) = (
        apply(params, state, view, batch.mask, own)
        for view, own in zip(views_of(batch), keys, strict=True)
    )
    return (first, second), jax.tree.map(lambda a, b: (a + b) / 2, one, other)


def views_of(batch: Batch) -> tuple[PyTree, PyTree]:
    """The two views of a batch; raises ``ValueError`` if there are none."""
    if not isinstance(batch, Batch):
        raise ValueError(
            f"The objective is of batches in two views and the task is a {type(batch).__name__}: "
            "draw it by source.batches, and put the objective into two_views."
        )
    if not isinstance(batch.x, tuple) or len(batch.x) != 2:
        raise ValueError(
            "The objective compares two views and the batch has one: put it into two_views, as in "
            "jaxmeta.objectives.two_views(objective, augment)."
        )
    return batch.x


def view_metrics(views: tuple[Array, Array], mask: Array) -> Metrics:
    """Signs of a collapse: how spread out the outputs are, and how similar between the views."""
    first, second = views
    return {
        "spread": (diagnostics.spread(first, mask) + diagnostics.spread(second, mask)) / 2,
        "positive_cosine": diagnostics.positive_cosine(first, second, mask),
        "instance_accuracy": diagnostics.instance_accuracy(first, second, mask),
    }
