"""The baseline of domain adaptation: a classifier of the source that never sees the target."""

from typing import Any

from jaxmeta.domains.frame import domains_of
from jaxmeta.losses import accuracy, cross_entropy
from jaxmeta.nn import chained
from jaxmeta.objectives import running_average
from jaxmeta.types import Array, Key, Model, Objective, PyTree, Report


def source_only(model: Model, head: Model, *, decay: float = 0.9) -> Objective:
    """The cross-entropy of the source's labels; the target is ignored.

    Args:
      model: the encoder.
      head: the classifier on its features.
      decay: decay of the running averages of the source's statistics; see
        :func:`jaxmeta.objectives.running_average`.

    Returns:
      An objective over ``{"source", "target"}``, with parameters and state ``{"model", "head"}``.
      It reports ``accuracy``.

    Raises:
      ValueError: ``decay`` is outside [0, 1] or, when called, the task does not hold two batches.

    >>> from jaxmeta.nn import mlp
    >>> objective = source_only(mlp(8), mlp(3, hidden=()))
    """
    network = chained(model=model, head=head)

    def init(key: Key, task: Any) -> tuple[PyTree, PyTree]:
        return network.init(key, domains_of(task)[0].x)

    def loss(params: PyTree, state: PyTree, task: Any, key: Key) -> tuple[Array, Report]:
        x, y, mask = domains_of(task)[0]
        logits, used = network.apply(params, state, x, mask, key)
        told = {"accuracy": accuracy(logits, y, mask)}
        return cross_entropy(logits, y, mask), Report(used, told)

    return Objective(init, loss, running_average(decay))
