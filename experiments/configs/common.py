"""What the configs share: the protocol of an experiment, with all of its fields.

A config is made of specs (see ``jaxmeta.runs.spec``): dictionaries that name a function under
``make`` and give its arguments. Any field can be set on the command line, as in
``--config.learner.steps=3``.
"""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def protocol(ways: int, shots: int, queries: int) -> ConfigDict:
    """The fields of every experiment; ``sample`` and ``learner`` follow ``ways`` until set."""
    config = ConfigDict()
    config.seed = 0
    config.steps = 10_000  # outer steps
    config.meta_batch = 32  # tasks per step
    config.ways = ways  # as evaluated
    config.shots = shots
    config.queries = queries  # examples per class in the query set
    config.log_every = 50  # outer steps per compiled call, and per line of metrics
    config.mixed_precision = False  # compute in bfloat16; parameters stay float32
    config.chunk = placeholder(int)  # tasks at a time; unset: as many as fit into memory
    config.sample = ConfigDict()  # training tasks, where they differ from the evaluation's
    for field in ("ways", "shots", "queries"):
        config.sample[field] = config.get_oneway_ref(field)
    config.learner = placeholder(ConfigDict)
    config.objective = ConfigDict({"make": "jaxmeta.objectives.episodic"})
    config.estimator = ConfigDict()  # a spec, if not the mean
    config.optimizer = ConfigDict({"make": "optax.adam", "learning_rate": cosine(config, 1e-3)})
    config.evaluation = ConfigDict()
    config.evaluation.every = 500  # outer steps between validations, each with a checkpoint
    config.evaluation.validation_episodes = 200
    config.evaluation.episodes = 600
    config.evaluation.seed = 0  # of the episodes, the same for every method and run
    config.rates = ConfigDict()  # factors of the updates of named parameters; 0 freezes them
    config.init_from = ConfigDict()  # parameters of another run: workdir, take, at
    # By name; the first is used for validation. Each may change arguments of the learner.
    config.evaluations = ConfigDict({"trained": {"learner": {}}}, sort_keys=False)
    return config


def classification(ways: int, shots: int, queries: int) -> ConfigDict:
    """Few-shot classification: cross-entropy, evaluated by accuracy."""
    config = protocol(ways, shots, queries)
    config.sample.least_ways = placeholder(int)  # each episode draws its ways, at least so many
    config.sample.least_shots = placeholder(int)
    config.sample.imbalanced = False  # each class draws its own number of shots
    config.sample.unlabeled = 0  # further examples per class, without labels
    config.sample.distractors = 0  # further classes of unlabeled examples
    config.loss = ConfigDict({"function": "jaxmeta.losses.cross_entropy"})
    config.metrics = metrics(accuracy="jaxmeta.losses.accuracy")
    config.higher_is_better = True
    return config


def regression(shots: int, queries: int) -> ConfigDict:
    """Few-shot regression: squared error."""
    config = protocol(1, shots, queries)
    config.loss = ConfigDict({"function": "jaxmeta.losses.squared_error"})
    config.metrics = metrics(squared_error="jaxmeta.losses.squared_error")
    config.higher_is_better = False
    return config


def metrics(**named: str) -> ConfigDict:
    """Metrics by the dotted names of their functions; the first selects the checkpoint."""
    specs = {name: {"function": function} for name, function in named.items()}
    return ConfigDict(specs, sort_keys=False)


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
    """Prototypical networks, trained with ``sample.ways`` and evaluated with ``ways``."""
    return learner(config, "prototypical")


def scratch(config: ConfigDict, steps: int, learning_rate: float) -> ConfigDict:
    """A network trained from scratch on each support set."""
    return learner(config, "from_scratch", steps=steps, learning_rate=learning_rate, head=True)


def learner(config: ConfigDict, name: str, head: bool = False, **arguments: Any) -> ConfigDict:
    """A learner of ``jaxmeta.learners``, or of your own when the name has a dot.

    A learner with a ``head``, one output for each of ``sample.ways``, is evaluated as it was
    trained; any other is rebuilt for ``ways``.
    """
    arguments["normalization"] = "transductive"
    if config.higher_is_better:  # classification
        arguments["ways"] = config.sample.get_oneway_ref("ways")
        if not head:
            config.evaluations.trained.learner.ways = config.get_oneway_ref("ways")
    make = name if "." in name else f"jaxmeta.learners.{name}"
    return ConfigDict({"make": make, **arguments})


def classifier(config: ConfigDict, **arguments: Any) -> ConfigDict:
    """A conv4 with a head of one output per way."""
    return ConfigDict(
        {"make": "jaxmeta.nn.conv4", "outputs": config.sample.get_oneway_ref("ways"), **arguments}
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


def descent(config: ConfigDict, peak: float, weight_decay: float) -> ConfigDict:
    """Gradient descent with Nesterov momentum; weight decay of kernels is part of the gradient."""
    decay = ConfigDict(
        {
            "make": "optax.add_decayed_weights",
            "weight_decay": weight_decay,
            "mask": {"function": "jaxmeta.nn.decay_mask"},
        }
    )
    steps = ConfigDict(
        {
            "make": "optax.sgd",
            "learning_rate": cosine(config, peak),
            "momentum": 0.9,
            "nesterov": True,
        }
    )
    return ConfigDict({"make": "optax.chain", "args": [decay, steps]})


def warmed_up(config: ConfigDict, peak: float, weight_decay: float) -> ConfigDict:
    """AdamW as for transformers; the rate rises over a twentieth of the run and then falls."""
    steps = config.get_oneway_ref("steps")
    rate = {
        "make": "optax.warmup_cosine_decay_schedule",
        "init_value": 0.0,
        "peak_value": peak,
        "warmup_steps": steps // 20,
        "decay_steps": steps,
    }
    return ConfigDict(
        {
            "make": "optax.adamw",
            "learning_rate": rate,
            "b2": 0.95,
            "weight_decay": weight_decay,
            "mask": {"function": "jaxmeta.nn.decay_mask"},
        }
    )


def change_of_characters() -> dict[str, Any]:
    """The augmentation of drawn characters: another size and place, and missing parts."""
    return {
        "make": "jaxmeta.data.composed",
        "changes": [
            {"make": "jaxmeta.data.resized_crop", "scale": [0.6, 1.4]},
            {"make": "jaxmeta.data.drop_pixels", "probability": 0.3},
            {
                "make": "jaxmeta.data.sometimes",
                "probability": 0.5,
                "change": {"make": "jaxmeta.data.erase"},
            },
        ],
    }


def short_texts(name: str) -> ConfigDict:
    """One of the sets of short texts, with word vectors."""
    vectors = "glove/glove.6B.50d.part.npy"
    return ConfigDict({"make": "jaxmeta.data.short_texts", "name": name, "vectors": vectors})


def omniglot() -> ConfigDict:
    """All of Omniglot at 28 pixels, split at random by characters, with turns by 90 degrees."""
    return ConfigDict(
        {"make": "jaxmeta.data.omniglot", "split": "characters", "size": 28, "rotations": True}
    )
