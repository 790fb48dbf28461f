"""A model for a desired task, and defenses against tuning it to harmful ones.

``resisting_linear.py``, ``resisting_omniglot.py`` and ``resisting_fc100.py`` have a ``WORLD``, and
their ``get_config`` takes a defense, as in
``--config=experiments/configs/resisting_fc100.py:blocked``:

- pretrained, the desired task alone; for linear labels, all three;
- plain, the desired task alone, in the setting of the defenses;
- censored, adversaries without steps; blocked, with steps; both by the entropy deficit;
- uniform, inverse, calibrated: blocked by the other losses of ``jaxmeta.blocking_losses``;
- second_order, blocked with second derivatives; hardened, blocked against three adversaries, two
  of which first initialize the last part of the model, or the last two, anew;
- booster.

All but ``pretrained`` are to start from a pretrained run: give ``--config.init_from.workdir=RUN``,
and for linear labels, whose classes differ, ``--config.init_from.take=model
--config.init_from.at=model``.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from . import common

Spec = Mapping[str, Any]

BLOCKING = {
    "censored": "entropy_deficit",
    "blocked": "entropy_deficit",
    "second_order": "entropy_deficit",
    "hardened": "entropy_deficit",
    "uniform": "uniform_divergence",
    "inverse": "inverse_cross_entropy",
    "calibrated": "calibrated_deficit",
}
"""The losses of the defenses along an adversary's path."""
DEFENSES = ("pretrained", "plain", *BLOCKING, "booster")


class World(NamedTuple):
    """A desired task and harmful ones.

    Attributes:
      data: the spec of both, as of ``jaxmeta.data.harmful_classes``.
      classes: of the desired task.
      model: the spec of the features.
      ways: classes of a harmful episode.
      pretraining: the spec of the data to pretrain on, and its classes; ``None`` for the desired.
      weight: of the defense's loss.
      steps: outer steps of a defense.
      pretraining_steps: outer steps of pretraining.
      batch: examples of the desired task in a step.
      rate: Adam's, which falls along a cosine.
      adversary_steps: K, steps of the adversary.
      rates: the least and the most rate of the adversary.
    """

    data: Spec
    classes: int
    model: Spec
    ways: int
    pretraining: tuple[Spec, int] | None = None
    weight: float = 1.0
    steps: int = 500
    pretraining_steps: int = 6_000
    batch: int = 64
    rate: float = 1e-3
    adversary_steps: int = 16
    rates: tuple[float, float] = (1e-3, 1.0)


def configure(world: World, defense: str) -> ConfigDict:
    """The config of a defense.

    Raises:
      ValueError: there is no defense of that name.
    """
    if defense not in DEFENSES:
        raise ValueError(f"There is no defense '{defense}': choose {', '.join(DEFENSES)}.")
    data, classes = world.data, world.classes
    pretrained = defense == "pretrained"
    if pretrained and world.pretraining is not None:
        data, classes = world.pretraining
    config = common.classification(ways=world.ways, shots=0, queries=500)
    config.steps = world.pretraining_steps if pretrained else world.steps
    config.log_every = 25
    config.evaluation.every = max(config.steps // 5 // config.log_every, 1) * config.log_every
    # The best on the desired task would be one that resists little.
    config.evaluation.checkpoint = "last"
    config.meta_batch = 2
    config.sample = ConfigDict({"batches": world.batch // config.meta_batch})
    config.data = ConfigDict(dict(data))
    config.model = ConfigDict(dict(world.model))
    head = {"make": "jaxmeta.nn.mlp", "outputs": classes, "hidden": []}
    config.learner = ConfigDict(
        {
            "make": "jaxmeta.learners.fixed_classifier",
            "head": head,
            "normalization": "transductive",
        }
    )
    config.objective = ConfigDict(objective_of(world, defense))
    if pretrained and world.pretraining is not None:
        config.sample = ConfigDict(
            {"make": "jaxmeta.data.without_support", "sample": {"batches": world.batch // 2}}
        )
    config.optimizer = ConfigDict(
        {"make": "optax.adam", "learning_rate": common.cosine(config, world.rate)}
    )
    learner = {"normalization": "running"}
    config.evaluations = ConfigDict({"desired": {"learner": learner}}, sort_keys=False)
    return config


def objective_of(world: World, defense: str) -> dict[str, Any]:
    """The spec of a defense's objective."""
    desired = {"make": "jaxmeta.objectives.episodic"}
    if defense == "pretrained":
        if world.pretraining is not None:
            return desired
        defense = "plain"
    if defense == "booster":
        learner = {"make": "jaxmeta.learners.prototypical", "ways": world.ways}
        spec = {"objective": desired, "adversary": learner, "weight": world.weight}
        return {"make": "jaxmeta.objectives.booster", **spec}
    adversary = {
        "make": "jaxmeta.learners.adversary",
        "ways": world.ways,
        "steps": 0 if defense in ("plain", "censored") else world.adversary_steps,
        "least_rate": world.rates[0],
        "most_rate": world.rates[1],
        "first_order": defense != "second_order",
    }
    loss = BLOCKING.get(defense, "entropy_deficit")
    return {
        "make": "jaxmeta.objectives.blocked",
        "objective": desired,
        "adversaries": [
            {**adversary, "reset": parts}
            for parts in ((0, 1, 2) if defense == "hardened" else (0,))
        ],
        "blocking": {"function": f"jaxmeta.blocking_losses.{loss}"},
        "weight": 0.0 if defense == "plain" else world.weight,
    }
