"""What the configs share: the protocol of an experiment, with every field that it has.

A config is made of specs (see ``jaxmeta.runs.spec``): dictionaries naming a function under
``make``, with its arguments. Any field can be set on the command line, as in
``--config.learner.steps=3``.
"""

from typing import Any

import optax
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def protocol(ways: int, shots: int, queries: int) -> ConfigDict:
    """The fields of every experiment. ``train`` and ``learner`` follow ``ways`` until set apart."""
    config = ConfigDict()
    config.seed = 0
    config.steps = 10_000  # outer steps
    config.meta_batch = 32  # tasks a step
    config.ways = ways  # as evaluated
    config.shots = shots
    config.queries = queries  # examples a class in the query set
    config.log_every = 50  # outer steps a compiled call, and a line of metrics
    config.mixed_precision = False  # compute in bfloat16; parameters stay float32
    config.chunk = placeholder(int)  # tasks at a time; unset: as fit into the memory
    config.train = ConfigDict()  # training episodes, where they differ from the evaluation's
    for field in ("ways", "shots", "queries"):
        config.train[field] = config.get_oneway_ref(field)
    config.augment = ConfigDict()  # a spec: what changes each training example at random
    config.objective = ConfigDict({"make": "jaxmeta.objectives.episodic"})
    config.optimizer = ConfigDict({"make": "optax.adam", "learning_rate": cosine(config, 1e-3)})
    config.evaluation = ConfigDict()
    config.evaluation.every = 500  # outer steps between validations, each with a checkpoint
    config.evaluation.validation_episodes = 200
    config.evaluation.episodes = 600
    config.evaluation.seed = 0  # of the episodes: the same for every method and run
    config.evaluation.learner = ConfigDict()  # arguments of the learner that differ in evaluation
    config.evaluation.baseline = placeholder(ConfigDict)  # a learner that meta-learns nothing
    return config


def classification(ways: int, shots: int, queries: int) -> ConfigDict:
    """Few-shot classification: cross-entropy, judged by accuracy."""
    config = protocol(ways, shots, queries)
    config.train.least_ways = placeholder(int)  # each episode draws its number, from this on
    config.train.least_shots = placeholder(int)
    config.train.imbalanced = False  # each class draws its shots
    config.train.unlabeled = 0  # further examples a class without a label
    config.train.distractors = 0  # further classes of such
    config.loss = ConfigDict({"function": "jaxmeta.losses.cross_entropy"})
    config.metric = ConfigDict({"function": "jaxmeta.losses.accuracy"})
    config.higher_is_better = True
    return config


def regression(shots: int, queries: int) -> ConfigDict:
    """Few-shot regression: squared error."""
    config = protocol(1, shots, queries)
    config.loss = ConfigDict({"function": "jaxmeta.losses.squared_error"})
    config.metric = ConfigDict({"function": "jaxmeta.losses.squared_error"})
    config.higher_is_better = False
    return config


def maml(config: ConfigDict, steps: int, learning_rate: float) -> ConfigDict:
    """MAML, with every argument that a command line may want to set."""
    return learner(
        config,
        "maml",
        steps=steps,
        learning_rate=learning_rate,
        first_order=False,
        head=True,
    )


def prototypical(config: ConfigDict) -> ConfigDict:
    """Prototypical networks, trained with ``train.ways`` and evaluated with ``ways``."""
    return learner(config, "prototypical")


def scratch(config: ConfigDict, steps: int, learning_rate: float) -> ConfigDict:
    """A network trained from scratch on each support set."""
    return learner(config, "from_scratch", steps=steps, learning_rate=learning_rate, head=True)


def learner(config: ConfigDict, name: str, head: bool = False, **arguments: Any) -> ConfigDict:
    """A learner of ``jaxmeta.learners``, or of your own when the name has a dot.

    One with a ``head``, an output for each of ``train.ways``, is evaluated as it was trained; any
    other is built anew for ``ways``.
    """
    arguments["normalization"] = "transductive"
    if config.higher_is_better:  # classification
        arguments["ways"] = config.train.get_oneway_ref("ways")
        if not head:
            config.evaluation.learner.ways = config.get_oneway_ref("ways")
    make = name if "." in name else f"jaxmeta.learners.{name}"
    return ConfigDict({"make": make, **arguments})


def classifier(config: ConfigDict, **arguments: Any) -> ConfigDict:
    """A conv4 with a head of as many outputs as there are ways."""
    return ConfigDict(
        {"make": "jaxmeta.nn.conv4", "outputs": config.train.get_oneway_ref("ways"), **arguments}
    )


def embedding(**arguments: Any) -> ConfigDict:
    """A conv4 without a head."""
    return ConfigDict({"make": "jaxmeta.nn.conv4", **arguments})


def cosine(config: ConfigDict, peak: float) -> ConfigDict:
    """A learning rate that falls from its peak to zero over the run, along a cosine."""
    return ConfigDict(
        {
            "make": "optax.cosine_decay_schedule",
            "init_value": peak,
            "decay_steps": config.get_oneway_ref("steps"),
        }
    )


def sgd(
    learning_rate: optax.ScalarOrSchedule, momentum: float, weight_decay: float
) -> optax.GradientTransformation:
    """Gradient descent with Nesterov's momentum, the weights' decay being part of the gradient."""
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.sgd(learning_rate, momentum, nesterov=True),
    )


def omniglot() -> ConfigDict:
    """All of Omniglot at 28 pixels, split by characters at random, turned by 90 degrees as well."""
    return ConfigDict(
        {"make": "jaxmeta.data.omniglot", "split": "characters", "size": 28, "rotations": True}
    )
