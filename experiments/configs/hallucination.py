"""Hallucination on the features of a run: Wang et al., 2018.

Command: python -m experiments.features --workdir=RUN --data_dir=DATA
python -m experiments.train --config=experiments/configs/hallucination.py:RUNG \
    --workdir=DIR --config.data.path=RUN/features.npz
Rungs, as experiments.ladder compares them: generator; learned_codes, whose codes are parameters;
zero, the same network without noise; noise, of a learned size, instead of a network; shuffled, a
generator of classes without meaning; plain, which imagines nothing; larger, the same with about as
many parameters as with a generator; untrained, plain before training.
"""

from typing import Any, NamedTuple

from ml_collections import ConfigDict

from . import common

HIDDEN, NOISE = (256, 256), 64
NETWORK = {"make": "jaxmeta.nn.residual_mlp", "hidden": [256]}
GENERATOR = {
    "make": "jaxmeta.nn.residual_mlp",
    "hidden": [*HIDDEN],
    "codes": NOISE,
    "nonnegative": True,
}
TRAINED = (
    "plain",
    "untrained",
    "larger",
    "zero",
    "noise",
    "generator",
    "learned_codes",
    "shuffled",
)
LEARNERS = {
    "prototypical": "prototypical",
    "prototypical_scaled": "prototypical",
    "matching": "matching",
    "prototype_matching": "prototype_matching",
    "ridge": "ridge",
}
"""What learners are called here and in the library; ``_scaled`` has a temperature."""
WITH_HEAD = ("prototype_matching", "ridge")
"""Learners with parameters besides those of the network."""


class Imagining(NamedTuple):
    """What the rungs of a ladder share.

    Attributes:
      path: the file of features.
      learner: which of :data:`LEARNERS`.
      shots: examples of each class, in training as in evaluation.
      extra: imagined examples for each of them.
      steps: outer steps.
      rate: the outer learning rate.
      size: of the features.
      classes: how many training classes there are; ``None`` for all.
      examples: how many examples of each, if ``classes`` is given.
      frozen: a run of the plain learner, whose parameters are taken and not trained; ``None`` to
        train all.
      digest: what tells the file of features from another one at its path.
    """

    path: str = "features.npz"
    learner: str = "prototypical"
    shots: int = 1
    extra: int = 4
    steps: int = 1_000
    rate: float = 1e-3
    size: int = 256
    classes: int | None = None
    examples: int = 100
    frozen: str | None = None
    digest: str = ""


def configure(asked: Imagining, rung: str) -> ConfigDict:
    """The config of a rung.

    Raises:
      ValueError: there is no such rung or learner.
    """
    if rung not in TRAINED:
        raise ValueError(f"There is no rung '{rung}' that is trained: choose {', '.join(TRAINED)}.")
    if asked.learner not in LEARNERS:
        raise ValueError(f"There is no learner '{asked.learner}': choose {', '.join(LEARNERS)}.")
    config = common.classification(ways=5, shots=asked.shots, queries=15)
    config.meta_batch = 4
    config.steps = asked.steps
    config.log_every = min(50, asked.steps)
    config.evaluation.every = min(250, asked.steps)
    config.data = ConfigDict(data_of(asked, rung))
    config.model = ConfigDict({"make": "jaxmeta.nn.chained", **network_of(asked, rung)})
    inner = common.learner(config, LEARNERS[asked.learner])
    if rung not in ("plain", "untrained", "larger"):
        inner = ConfigDict(
            {"make": "jaxmeta.learners.hallucinated", "learner": inner, "extra": asked.extra}
            | generator_of(asked, rung)
        )
    front = {"make": "jaxmeta.nn.power", "exponent": 0.5}
    config.learner = ConfigDict(
        {"make": "jaxmeta.learners.embedded", "model": front, "learner": inner}
    )
    schedule = common.cosine(config, asked.rate)
    config.optimizer = ConfigDict({"make": "optax.adam", "learning_rate": schedule})
    if asked.classes is not None or rung == "shuffled":  # other seeds have others
        config.data.seed = config.get_oneway_ref("seed")
    if asked.frozen is not None:
        part = "learner"
        config.init_from = ConfigDict({"workdir": asked.frozen, "take": part, "at": part})
        own = ["model", "head"] if asked.learner in WITH_HEAD else ["model"]
        config.rates = ConfigDict({f"{part}/{name}": 0.0 for name in own})
    if rung == "untrained":
        config.steps = 0
        config.optimizer = ConfigDict({"make": "optax.identity"})
    return config


def network_of(asked: Imagining, rung: str) -> dict[str, Any]:
    """The parts of the learner's network."""
    parts: dict[str, Any] = {"a": NETWORK}
    if rung == "larger":
        parts["b"] = {"make": "jaxmeta.nn.residual_mlp", "hidden": [*HIDDEN]}
    if asked.learner == "prototypical_scaled":
        parts["c"] = {"make": "jaxmeta.nn.unit_length"}
        parts["d"] = {"make": "jaxmeta.nn.scaled", "scale": 3.0}
    return parts


def data_of(asked: Imagining, rung: str) -> dict[str, Any]:
    """The spec of the features, with fewer classes or other labels for the training."""
    data: dict[str, Any] = {"make": "jaxmeta.data.features", "path": asked.path}
    if asked.classes is not None:
        data = {"make": "jaxmeta.data.fewer_examples", "data": data, "classes": asked.classes}
        data["examples"] = asked.examples
    if rung == "shuffled":
        data = {"make": "jaxmeta.data.shuffled_labels", "data": data}
    return data


def generator_of(asked: Imagining, rung: str) -> dict[str, Any]:
    """The generator of a rung, and its codes."""
    if rung == "noise":
        return {"generator": {"make": "jaxmeta.nn.isotropic", "spread": 0.1}, "noise": asked.size}
    codes = {"zero": "zero", "learned_codes": "learned"}.get(rung, "drawn")
    return {"generator": GENERATOR, "noise": NOISE, "codes": codes}


def get_config(rung: str = "generator") -> ConfigDict:
    return configure(Imagining(), rung)
