"""How evenly methods serve tasks of unlike sizes: one network, trained in several ways.

``review_sizes.py`` has a ``PROBLEM``, which ``experiments.evenness`` trains every method on.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from . import common

Spec = Mapping[str, Any]


class Problem(NamedTuple):
    """Tasks of unlike sizes with the same classes, and the network that learns them.

    Attributes:
      data: the spec of the tasks, whose function takes the ``sizes``.
      sizes: how many training examples the tasks have, from the fewest to the most.
      classes: the classes of each task.
      features: the network below its head.
      budget: how many examples training differentiates, counted as often as it does.
      adaptations: the numbers of steps to choose from, of Adam on a task's own examples.
      batch: examples of such a step.
      learning_rate: Adam's, of such a step.
      outer_rate: Adam's in training, which falls along a cosine.
      rotated: by how many places a rotation moves the sizes.
    """

    data: Spec
    sizes: Sequence[int]
    classes: int
    features: Spec
    budget: int
    adaptations: Sequence[int]
    batch: int
    learning_rate: float
    outer_rate: float
    rotated: int

    def sizes_of(self, rotation: int) -> list[int]:
        """The size of each task in a rotation."""
        count = len(self.sizes)
        return [self.sizes[(i + self.rotated * rotation) % count] for i in range(count)]


class Way(NamedTuple):
    """A way to train.

    Attributes:
      shots: examples of each class in the support set of a training task.
      queries: examples of each class in its query set.
      steps: inner steps.
      batch: support examples of an inner step; all if ``None``.
    """

    shots: int
    queries: int
    steps: int
    batch: int | None = None

    def cost(self, classes: int) -> int:
        """How many examples a task differentiates."""
        return self.steps * (self.batch or self.shots * classes) + self.queries * classes


WAYS = {
    "joint": Way(shots=1, queries=8, steps=0),  # all tasks together is MAML without inner steps
    "fomaml": Way(shots=5, queries=5, steps=3),
    "reptile": Way(shots=9, queries=1, steps=5, batch=8),
    "prototypical": Way(shots=5, queries=5, steps=0),
}
UNADAPTED = "unadapted"
INNER_RATE = 0.05


def configure(problem: Problem, way: str, exponent: float, rotation: int) -> ConfigDict:
    """The config of a run: a way of training, or ``"alone"`` for none.

    Args:
      problem: the tasks.
      way: of :data:`WAYS`, or ``"alone"``.
      exponent: tasks are drawn in proportion to their sizes to this power.
      rotation: which task has which size.
    """
    chosen = WAYS["joint" if way == "alone" else way]
    config = common.classification(problem.classes, chosen.shots, chosen.queries)
    config.seed = rotation
    cost = chosen.cost(problem.classes)
    steps = problem.budget // (len(problem.sizes) * cost * config.log_every) * config.log_every
    config.steps = 0 if way == "alone" else steps
    config.meta_batch = len(problem.sizes)
    fields = {"ways": problem.classes, "shots": chosen.shots, "queries": chosen.queries}
    config.sample = ConfigDict({**fields, "exponent": exponent})
    own = {**problem.data, "sizes": problem.sizes_of(rotation)}
    config.data = ConfigDict({"make": "jaxmeta.data.splits_to_adapt", "tasks": own})
    config.evaluation.every = max(config.steps, config.log_every)
    config.evaluation.checkpoint = "last"
    parts = {"make": "jaxmeta.nn.chained", "features": dict(problem.features)}
    if way == "prototypical":
        config.learner = common.learner(config, "prototypical")
        config.evaluations = ConfigDict({UNADAPTED: {"learner": {"normalization": "running"}}})
    else:
        parts["head"] = {"make": "jaxmeta.nn.mlp", "outputs": problem.classes, "hidden": []}
        descent = {"make": "optax.sgd", "learning_rate": INNER_RATE}
        config.learner = continued(problem, chosen.steps, descent, chosen.batch)
        config.evaluations = ConfigDict(evaluations(problem), sort_keys=False)
    config.model = ConfigDict({"make": "jaxmeta.multitask.one_network", "model": parts})
    if way == "reptile":
        config.objective.make = "jaxmeta.objectives.reptile"
        rate = common.cosine(config, 1.0)
        config.optimizer = ConfigDict({"make": "optax.sgd", "learning_rate": rate})
    elif way == "alone":
        config.optimizer = ConfigDict({"make": "optax.identity"})
    else:
        config.optimizer.learning_rate = common.cosine(config, problem.outer_rate)
    return config


def continued(
    problem: Problem,
    steps: int,
    optimizer: Spec,
    batch: int | None,
    normalization: str = "transductive",
) -> ConfigDict:
    """The learner that goes on from the parameters it is given, by steps on a support set."""
    inner = {
        "make": "jaxmeta.inner.unroll",
        "optimizer": dict(optimizer),
        "steps": steps,
        "first_order": True,
    }
    return ConfigDict(
        {
            "make": "jaxmeta.learners.gradient_learner",
            "inner": inner,
            "ways": problem.classes,
            "normalization": normalization,
            "batch": batch,
        }
    )


def evaluations(problem: Problem) -> dict[str, Any]:
    """Evaluations without steps, and with each number to choose from."""
    adam = {"make": "optax.adam", "learning_rate": problem.learning_rate}
    return {
        name_of(steps): {"learner": continued(problem, steps, adam, problem.batch, "running")}
        for steps in (0, *problem.adaptations)
    }


def name_of(steps: int) -> str:
    """What an evaluation is called."""
    return f"adapted_{steps}" if steps else UNADAPTED
