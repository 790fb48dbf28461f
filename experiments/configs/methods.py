"""Every method of the library on one data set, as :mod:`experiments.compare` trains them.

``get_config`` of ``omniglot.py``, ``cifar_fs.py`` and ``glyphs.py`` takes a method's name, as in
``--config=experiments/configs/omniglot.py:ridge``.
"""

from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from . import common
from .pretraining import PRETRAINED, TRANSFERRED, Data


def comparing(data: Data, name: str, loss: str = "cross_entropy", **arguments: Any) -> ConfigDict:
    """A method that compares, trained on a few episodes of many ways a step."""
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
    """A method that adapts a network or, with ``head=False``, what it puts on an embedding."""
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
    """Relation networks on feature maps; half of the halvings are left to the comparison."""
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
    """MAML++; after 500 outer steps only the loss of the last inner step counts."""
    config = adapting(data, "maml_plus_plus", steps=3, learning_rate=data.inner_rate)
    config.objective.make = "jaxmeta.objectives.multi_step"
    config.objective.annealing_steps = 500
    return config


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
    "alfa": lambda data: adapting(data, "alfa", steps=3, learning_rate=data.inner_rate),
    "lstm_meta_learner": lambda data: adapting(data, "lstm_meta_learner", steps=5),
    "proto_maml": lambda data: adapting(data, "proto_maml", head=False, steps=1, learning_rate=0.1),
    "imaml": lambda data: adapting(
        data, "imaml", steps=5, learning_rate=data.inner_rate, penalty=0.5
    ),
    "reptile": reptile,
    "from_scratch": scratch,
}
"""Methods that are evaluated as they were trained, by name."""


def configure(data: Data, method: str) -> ConfigDict:
    """The config of a method of :data:`TRAINED` or :data:`pretraining.PRETRAINED`.

    Raises:
      ValueError: there is no method of that name.
    """
    if method in TRANSFERRED:
        raise ValueError(
            f"'{method}' transfers what the method 'pretrained' trained: train that, or give "
            f"experiments.compare --learners={method}."
        )
    trained = {**TRAINED, **PRETRAINED}
    if method not in trained:
        raise ValueError(f"There is no method '{method}': choose {', '.join(trained)}.")
    config = trained[method](data)
    if config.steps > 0:  # otherwise nothing is trained
        config.steps = 2_000
    config.evaluation.every = 500
    return config
