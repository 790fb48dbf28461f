"""Any Objective on randomly augmented examples, augmented anew at each outer step."""

from typing import Any

import jax

from jaxmeta.types import Array, Augment, Batch, Episode, Key, Objective, PyTree, Report


def augmented(objective: Objective, augment: Augment, support: Augment | None = None) -> Objective:
    r"""The same loss, on a task whose examples are each randomly augmented.

    .. math:: \ell\big(\theta;\; \{(a_{j}(x_{j}), y_{j})\}_j\big)
              \quad \text{for} \quad \ell\big(\theta;\; \{(x_{j}, y_{j})\}_j\big)

    where the augmentations :math:`a_{j}` are independent and drawn from the task's key. Evaluation
    episodes, which no objective sees, are not augmented.

    Args:
      objective: an objective over tasks that contain :class:`~jaxmeta.types.Batch` es: a batch, an
        episode, a pair of them.
      augment: augments one example, as :func:`jaxmeta.data.crop_and_mirror` does an image.
      support: augments the examples of an episode's support set, if that is done differently; with
        :func:`jaxmeta.data.unchanged` only the queries are augmented.

    Returns:
      An objective over the same tasks.

    Raises:
      ValueError: when called, an augmented example differs in structure, shape or type, or
        ``support`` is given and the task is not an episode.

    >>> import jax.numpy as jnp
    >>> from jaxmeta.losses import cross_entropy
    >>> from jaxmeta.nn import mlp
    >>> from jaxmeta.pretraining import supervised
    >>> def noisy(key, x):
    ...     return x + jax.random.normal(key, x.shape, x.dtype)
    >>> objective = augmented(supervised(mlp(8), classes=3), noisy)
    """

    def task_loss(params: PyTree, state: PyTree, task: Any, key: Key) -> tuple[Array, Report]:
        batches, structure = jax.tree.flatten(task, is_leaf=lambda node: isinstance(node, Batch))
        *keys, key = jax.random.split(key, len(batches) + 1)
        changes = [augment] * len(batches)
        if support is not None:
            if not isinstance(task, Episode):
                raise ValueError(
                    f"`support` changes the support sets of episodes and the task is a "
                    f"{type(task).__name__}: leave it out."
                )
            changes[0] = support
        batches = [
            changed(batch, *own) if isinstance(batch, Batch) else batch
            for batch, *own in zip(batches, keys, changes, strict=True)
        ]
        return objective.loss(params, state, jax.tree.unflatten(structure, batches), key)

    return objective._replace(loss=task_loss)


def changed(batch: Batch, key: Key, augment: Augment) -> Batch:
    """The batch with each of its examples augmented; see :func:`augmented` for the errors."""
    x = jax.vmap(augment)(jax.random.split(key, batch.mask.size), batch.x)
    before, after = (
        jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape[1:])}", of) for of in (batch.x, x)
    )
    if before != after:
        raise ValueError(
            f"The augmentation makes {after} of an example {before}: give one that keeps its "
            "structure, shape and type."
        )
    return batch._replace(x=x)
