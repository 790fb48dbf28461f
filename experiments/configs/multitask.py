"""Every method of multi-task learning on one set of tasks.

``get_config`` of ``cifar100_tasks.py``, ``multi_mnist.py``, ``review_tasks.py`` and
``clinc150_tasks.py`` takes a method's name, as in
``--config=experiments/configs/cifar100_tasks.py:pcgrad``.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from . import common

Spec = Mapping[str, Any]


class Tasks(NamedTuple):
    """Tasks, and the network that they share.

    Attributes:
      data: the spec of the tasks.
      tasks: their number.
      classes: the most classes of a task.
      stages: the network, in parts, one after the other.
      batch: examples of a task in a step.
      steps: outer steps.
      rate: learning rate of Adam, which falls along a cosine.
      depths: for the hierarchical network, how many stages each task has; ``None`` for none.
    """

    data: Spec
    tasks: int
    classes: int
    stages: Sequence[Spec]
    batch: int
    steps: int
    rate: float = 1e-3
    depths: Sequence[int] | None = None

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that differ on these tasks."""
        alike = {"ple"} if len(self.stages) == 1 else set()  # one level of experts is cgc
        alike |= {"hierarchical"} if self.depths is None else set()  # one depth is hard sharing
        return tuple(method for method in METHODS if method not in alike)


WEIGHING = (
    *("random_weights", "pcgrad", "mgda", "cagrad", "nash_mtl", "imtl_g", "aligned_mtl"),
    "balanced",
)
SHARING = ("cross_stitch", "cgc", "ple", "task_attention", "shared_private", "adversarial_sharing")
METHODS = ("separate", "hard_sharing", "uncertainty", *WEIGHING, *SHARING, "hierarchical")


def configure(tasks: Tasks, method: str, steps: int | None = None) -> ConfigDict:
    """The config of a method, of the tasks' number of steps or of another.

    Raises:
      ValueError: there is no method of that name.
    """
    if method not in tasks.methods:
        raise ValueError(f"There is no method '{method}': choose {', '.join(tasks.methods)}.")
    config = common.classification(ways=tasks.classes, shots=0, queries=500)
    config.steps = steps or tasks.steps
    config.evaluation.every = max(config.steps // 10 // config.log_every, 1) * config.log_every
    config.meta_batch = tasks.tasks  # a step has every task once, in turn
    config.sample = ConfigDict({"batches": tasks.batch})
    config.data = ConfigDict(dict(tasks.data))
    config.model = model(tasks, method)
    config.objective = objective(tasks, method)
    if method in WEIGHING:
        config.estimator = ConfigDict(
            {"make": f"jaxmeta.gradients.{method}", "shared": ["model/encoder"]}
        )
    rate = common.cosine(config, tasks.rate)
    config.optimizer = ConfigDict({"make": "optax.adam", "learning_rate": rate})
    learner = {"make": "jaxmeta.learners.fixed_classifier", "normalization": "running"}
    config.evaluations = ConfigDict({"trained": {"learner": learner}}, sort_keys=False)
    return config


def model(tasks: Tasks, method: str) -> ConfigDict:
    """The spec of the network."""
    head = {"make": "jaxmeta.nn.mlp", "outputs": tasks.classes, "hidden": []}
    stages = [dict(stage) for stage in tasks.stages]
    whole = {"make": "jaxmeta.nn.chained", **{f"stage{i}": each for i, each in enumerate(stages)}}
    shared = {"head": head, "tasks": tasks.tasks}
    fields: dict[str, Any]
    if method == "separate":
        classifier = {"make": "jaxmeta.nn.chained", "encoder": whole, "head": head}
        fields = {"make": "per_task", "model": classifier, "tasks": tasks.tasks}
    elif method in ("cgc", "ple"):
        levels = [whole] if method == "cgc" else stages
        fields = {"make": "gated_experts", "levels": levels, **shared}
    elif method in ("cross_stitch", "task_attention"):
        fields = {"make": method, "stages": stages, **shared}
    elif method in ("shared_private", "adversarial_sharing"):
        fields = {"make": "shared_private", "shared": whole, "private": whole, **shared}
    elif method == "hierarchical":
        depths = [*(tasks.depths or ())]
        fields = {"make": method, "stages": stages, "head": head, "depths": depths}
    else:
        fields = {"make": "hard_sharing", "features": whole, **shared}
    return ConfigDict({**fields, "make": f"jaxmeta.multitask.{fields['make']}"})


def objective(tasks: Tasks, method: str) -> ConfigDict:
    """The spec of the objective."""
    plain = {"make": "jaxmeta.multitask.multitask"}
    if method == "uncertainty":
        return ConfigDict(
            {
                "make": "jaxmeta.multitask.by_uncertainty",
                "objective": plain,
                "tasks": tasks.tasks,
            }
        )
    if method != "adversarial_sharing":
        return ConfigDict(plain)
    spec = model(tasks, method)
    spec.make = "jaxmeta.multitask.adversarial_sharing"
    spec.critic = ConfigDict({"make": "jaxmeta.nn.mlp", "outputs": tasks.tasks, "hidden": []})
    return spec
