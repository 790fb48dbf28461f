"""Every method of the library on one data set, as :mod:`experiments.compare` trains them.

``get_config`` of ``omniglot.py``, ``cifar_fs.py`` and ``glyphs.py`` takes a method's name, as in
``--config=experiments/configs/omniglot.py:ridge``.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from . import common


class Data(NamedTuple):
    """A data set, and what suits its size.

    Attributes:
      spec: of the sources.
      model: arguments of ``conv4``.
      inner_rate: MAML's inner learning rate, from which others' follow.
      train_ways: of the episodes of methods that serve any number of ways.
      cosine: whether the classifier of all training classes is a cosine classifier.
      augment: a spec of what changes the classifier's training images, each seen many times.
      normalization: of the classifier's features, when they are transferred.
    """

    spec: ConfigDict
    model: Mapping[str, Any]
    inner_rate: float
    train_ways: int
    cosine: bool = True
    augment: Mapping[str, Any] = {}
    normalization: str = "transductive"


def comparing(data: Data, name: str, loss: str = "cross_entropy", **arguments: Any) -> ConfigDict:
    """A method that compares, trained on one episode of many ways a step."""
    config = common.classification(ways=5, shots=1, queries=15)
    config.meta_batch = 2
    config.sample.ways = data.train_ways
    config.sample.queries = 5
    config.data = data.spec
    config.model = common.embedding(**data.model)
    config.learner = common.learner(config, name, **arguments)
    config.loss = ConfigDict({"function": f"jaxmeta.losses.{loss}"})
    return config


def adapting(
    data: Data, name: str, head: bool = True, evaluated: int | None = None, **arguments: Any
) -> ConfigDict:
    """A method that adapts a network, or with ``head=False`` what it puts on an embedding."""
    config = common.classification(ways=5, shots=1, queries=15)
    config.meta_batch = 8
    config.sample.queries = 5
    config.data = data.spec
    make = common.embedding if not head else lambda **given: common.classifier(config, **given)
    config.model = make(**data.model)
    config.learner = common.learner(config, name, head=True, **arguments)
    if evaluated is not None:
        config.evaluations.trained.learner.steps = evaluated
    return config


def relation(data: Data) -> ConfigDict:
    """Relation networks, on maps of which half the halvings are left to the comparison."""
    config = comparing(data, "relation", loss="relation_error")
    config.sample.ways = 5
    widths = {name: value for name, value in data.model.items() if name == "filters"}
    config.model = common.embedding(halvings=2, flatten=False, **widths)
    return config


def reptile(data: Data) -> ConfigDict:
    """Reptile, trained with ten shots and evaluated after fifty steps."""
    config = adapting(
        data, "reptile", evaluated=50, steps=5, learning_rate=data.inner_rate, batch=10
    )
    config.sample.shots = 10
    config.sample.queries = 1
    config.objective.make = "jaxmeta.objectives.reptile"
    config.optimizer = ConfigDict(
        {"make": "optax.sgd", "learning_rate": common.cosine(config, 1.0)}
    )
    return config


def maml_plus_plus(data: Data) -> ConfigDict:
    """MAML++, of whose losses only the last counts after 500 outer steps."""
    config = adapting(data, "maml_plus_plus", steps=3, learning_rate=data.inner_rate)
    config.objective.make = "jaxmeta.objectives.multi_step"
    config.objective.annealing_steps = 500
    return config


def pretrained(data: Data) -> ConfigDict:
    """A classifier of all base classes; what is evaluated transfers its features."""
    config = common.classification(ways=5, shots=1, queries=15)
    config.meta_batch = 2  # batches of examples a step
    config.sample = ConfigDict({"batches": 64})
    config.data = data.spec
    config.model = common.embedding(**data.model)
    # Gradient descent with Nesterov's momentum, the weights' decay being part of the gradient.
    decay = {"make": "optax.add_decayed_weights", "weight_decay": 1e-3}
    descent = ConfigDict(
        {
            "make": "optax.sgd",
            "learning_rate": common.cosine(config, 0.1),
            "momentum": 0.9,
            "nesterov": True,
        }
    )
    config.optimizer = ConfigDict({"make": "optax.chain", "args": [decay, descent]})
    classifier = {"make": "jaxmeta.pretraining.supervised", "cosine": data.cosine}
    config.objective = ConfigDict(classifier)
    if data.augment:
        config.objective = ConfigDict(
            {
                "make": "jaxmeta.objectives.augmented",
                "objective": classifier,
                "augment": dict(data.augment),
            }
        )
    config.evaluations = ConfigDict({"nearest_mean": {}}, sort_keys=False)
    config.evaluations.nearest_mean.learner = transfer(
        "nearest_mean", ways=config.get_oneway_ref("ways"), normalization=data.normalization
    )
    return config


def transfer(name: str, **arguments: Any) -> ConfigDict:
    """A learner on the features of :func:`pretrained`."""
    return ConfigDict({"make": f"jaxmeta.learners.{name}", **arguments})


def scratch(data: Data) -> ConfigDict:
    """Nothing is trained beforehand."""
    config = adapting(data, "from_scratch", steps=30, learning_rate=1e-2)
    config.steps = 0
    config.optimizer = ConfigDict({"make": "optax.identity"})
    return config


TRAINED: dict[str, Callable[[Data], ConfigDict]] = {
    "siamese": lambda data: comparing(data, "siamese", loss="pair_verification"),
    "matching": lambda data: comparing(data, "matching"),
    "matching_full_context": lambda data: comparing(data, "matching", full_context=True),
    "prototypical": lambda data: comparing(data, "prototypical"),
    "relation": relation,
    "ridge": lambda data: comparing(data, "ridge"),
    "maml": lambda data: adapting(
        data, "maml", evaluated=3, steps=1, learning_rate=data.inner_rate
    ),
    "first_order_maml": lambda data: adapting(
        data, "maml", evaluated=3, steps=1, learning_rate=data.inner_rate, first_order=True
    ),
    "anil": lambda data: adapting(data, "anil", head=False, steps=5, learning_rate=0.5),
    "meta_sgd": lambda data: adapting(data, "meta_sgd", steps=1, learning_rate=data.inner_rate / 4),
    "maml_plus_plus": maml_plus_plus,
    "proto_maml": lambda data: adapting(data, "proto_maml", head=False, steps=1, learning_rate=0.1),
    "imaml": lambda data: adapting(
        data, "imaml", steps=5, learning_rate=data.inner_rate, penalty=0.5
    ),
    "reptile": reptile,
    "pretrained": pretrained,
    "from_scratch": scratch,
}
"""What is trained, by name."""

TRANSFERRED: dict[str, ConfigDict] = {
    "nearest_mean": transfer("nearest_mean"),
    "fine_tuning_linear": transfer("fine_tuning"),
    "fine_tuning_cosine": transfer("fine_tuning", head="cosine"),
    "fine_tuning_entropy": transfer("fine_tuning", head="cosine", entropy=0.3),
    "fine_tuning_whole": transfer("fine_tuning", whole=True, steps=30, learning_rate=1e-3),
    "logistic_regression": transfer("logistic_regression"),
}
"""What is evaluated of the run named ``pretrained``, by name."""


def configure(data: Data, method: str) -> ConfigDict:
    """The config of a method of :data:`TRAINED`.

    Raises:
      ValueError: there is none of that name.
    """
    if method in TRANSFERRED:
        raise ValueError(
            f"'{method}' transfers what the method 'pretrained' trained: train that, or give "
            f"experiments.compare --learners={method}."
        )
    if method not in TRAINED:
        raise ValueError(f"There is no method '{method}': choose {', '.join(TRAINED)}.")
    config = TRAINED[method](data)
    if method != "from_scratch":
        config.steps = 2_000
    config.evaluation.every = 500
    return config
