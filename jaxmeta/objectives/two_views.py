"""An Objective over batches in two random views, as self-supervised losses compare them."""

from typing import Any

import jax

from jaxmeta.objectives.augmented import changed
from jaxmeta.types import Array, Augment, Batch, Carried, Key, Objective, PyTree, Report


def two_views(objective: Objective, augment: Augment, second: Augment | None = None) -> Objective:
    r"""The loss of a batch whose examples are each seen in two independent random views.

    .. math:: \ell\big(\theta;\; \{(a_j(x_j),\, a'_j(x_j))\}_j\big)

    Augmentations are drawn on the device from the task's key: anew at each step, for data in memory
    and streamed data, and identically on any number of devices.

    Args:
      objective: an objective over batches whose ``x`` is a pair of views, such as those of
        :mod:`jaxmeta.pretraining`.
      augment: makes a view of one example.
      second: makes the second view, if it is made differently.

    Returns:
      An objective over the batches that ``source.batches(size)`` draws.

    Raises:
      ValueError: when called, the task is not a batch, or a view differs from the example in
        structure, shape or type.

    >>> from jaxmeta.data import crop_and_mirror
    >>> from jaxmeta.nn import conv4, projector
    >>> from jaxmeta.pretraining import simclr
    >>> objective = two_views(simclr(conv4(), projector(128)), crop_and_mirror(4))
    """

    def init(key: Key, batch: Batch) -> tuple[PyTree, PyTree]:
        return objective.init(key, _twice(batch))

    def loss(params: PyTree, state: PyTree, task: Any, key: Key) -> tuple[Array, Report]:
        batch = _checked(task.task if isinstance(task, Carried) else task)
        first_key, second_key, key = jax.random.split(key, 3)
        one = changed(batch, first_key, augment)
        other = changed(batch, second_key, second or augment)
        pair = batch._replace(x=(one.x, other.x))
        return objective.loss(
            params, state, task._replace(task=pair) if isinstance(task, Carried) else pair, key
        )

    begin = objective.carry
    return Objective(
        init,
        loss,
        objective.update,
        begin and (lambda params, state, batch, key: begin(params, state, _twice(batch), key)),
    )


def _twice(batch: Batch) -> Batch:
    """The batch in two unchanged views."""
    return _checked(batch)._replace(x=(batch.x, batch.x))


def _checked(batch: Batch) -> Batch:
    if not isinstance(batch, Batch):
        raise ValueError(
            f"two_views is of batches and the task is a {type(batch).__name__}: draw it by "
            "source.batches, in a config by sample = {'batches': 128}."
        )
    return batch
