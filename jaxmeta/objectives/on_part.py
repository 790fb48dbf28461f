"""An Objective of one part of a task, so that objectives of different tasks can be added."""

from typing import Any

from jaxmeta.types import Array, Carried, Key, Objective, PyTree, Report


def on_part(objective: Objective, part: str) -> Objective:
    """The same objective, given only a named part of each task.

    Args:
      objective: an objective over that part.
      part: its name in the dictionary that a task is, as drawn by :func:`jaxmeta.data.paired`.

    Raises:
      ValueError: when called, the task has no such part.

    >>> from jaxmeta.domains import coral
    >>> from jaxmeta.learners import prototypical
    >>> from jaxmeta.losses import cross_entropy
    >>> from jaxmeta.nn import mlp
    >>> from jaxmeta.objectives import added, episodic
    >>> few_shot = episodic(prototypical(mlp(8), ways=5), cross_entropy)
    >>> objective = added({
    ...     "few_shot": on_part(few_shot, "episode"), "domain": on_part(coral(mlp(8)), "domains")
    ... })
    """

    def own(task: Any) -> Any:
        if isinstance(task, Carried):
            return task._replace(task=own(task.task))
        if not isinstance(task, dict) or part not in task:
            what = ", ".join(task) if isinstance(task, dict) else type(task).__name__
            raise ValueError(
                f"The objective is of the part '{part}' and the task has {what}: draw tasks by "
                "paired, with that name."
            )
        return task[part]

    def init(key: Key, task: Any) -> tuple[PyTree, PyTree]:
        return objective.init(key, own(task))

    def loss(params: PyTree, state: PyTree, task: Any, key: Key) -> tuple[Array, Report]:
        return objective.loss(params, state, own(task), key)

    carry = objective.carry

    def begin(params: PyTree, state: PyTree, task: Any, key: Key) -> PyTree:
        assert carry is not None
        return carry(params, state, own(task), key)

    return Objective(init, loss, objective.update, begin if carry is not None else None)
