"""Every method of domain adaptation on one pair of domains.

``get_config`` of ``mnist_m.py``, ``mnist_usps.py``, ``usps_mnist.py`` and ``reviews.py`` takes a
method's name, as in ``--config=experiments/configs/mnist_m.py:dann``.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from . import common


class Shift(NamedTuple):
    """A labeled source, a target without labels, and a network for both.

    Attributes:
      data: the spec of both domains.
      classes: their number of classes.
      model: the spec of the encoder.
      hidden: hidden layers of the classifier on its features.
      critic: hidden layers of the critic.
      steps: outer steps.
      adam: learning rate of Adam, which falls along a cosine; ``None`` for descent with momentum,
        as Ganin et al. train digits.
      normalized: the spec of an encoder with batch normalization, for the methods that need one.
    """

    data: Mapping[str, Any]
    classes: int
    model: Mapping[str, Any]
    hidden: tuple[int, ...]
    critic: tuple[int, ...]
    steps: int = 8_600
    adam: float | None = None
    normalized: Mapping[str, Any] | None = None

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that there are for these domains."""
        return METHODS if self.normalized is None else (*METHODS, *NORMALIZED)


def digits(source: str, target: str) -> Shift:
    """Two sets of digits, by the network of ADDA and CDAN."""
    sets = {"source": source, "target": target}
    return Shift(
        data={
            "make": "jaxmeta.data.domain_shift",
            **{domain: {"make": f"jaxmeta.data.{name}"} for domain, name in sets.items()},
        },
        classes=10,
        model={"make": "jaxmeta.nn.lenet", "filters": [20, 50], "center": 0.2},
        hidden=(500,),
        critic=(500, 500),
        normalized={"make": "jaxmeta.nn.conv4", "filters": 32, "halvings": 3},
    )


CRITICS = ("dann", "cdan", "adda")
METHODS = ("source_only", "mmd", "coral", *CRITICS)
NORMALIZED = ("batch_norm", "adabn")
"""Source only, by another encoder: tested with averages of the source, or statistics of batches."""
BASELINES = dict.fromkeys(NORMALIZED, "batch_norm")
"""What gains are over, where it is not ``source_only``."""


def configure(shift: Shift, method: str, steps: int | None = None) -> ConfigDict:
    """The config of a method, of the shift's number of steps or of another.

    Raises:
      ValueError: there is no method of that name.
    """
    if method not in shift.methods:
        raise ValueError(f"There is no method '{method}': choose {', '.join(shift.methods)}.")
    encoder, objective = shift.model, method
    if method in NORMALIZED and shift.normalized is not None:
        encoder, objective = shift.normalized, "source_only"
    config = common.classification(ways=shift.classes, shots=0, queries=500)
    config.steps = steps or shift.steps
    # Some twenty validations.
    config.evaluation.every = max(config.steps // 20 // config.log_every, 1) * config.log_every
    # A step has 64 examples of each domain, in one task where statistics of a batch are compared.
    config.meta_batch = 2 if method in (*CRITICS, "source_only", *NORMALIZED) else 1
    config.sample = ConfigDict({"batches": 64 // config.meta_batch})
    config.data = ConfigDict(dict(shift.data))
    config.model = ConfigDict(dict(encoder))
    head = perceptron(shift.classes, shift.hidden)
    config.objective = ConfigDict({"make": f"jaxmeta.domains.{objective}", "head": head})
    if method in CRITICS:
        config.objective.critic = perceptron(2, shift.critic)
        if method == "adda":
            config.objective.pretraining = config.get_oneway_ref("steps") // 2
        else:
            config.objective.steps = config.get_oneway_ref("steps")
    if shift.adam is not None:
        rate = common.cosine(config, shift.adam)
        config.optimizer = ConfigDict({"make": "optax.adam", "learning_rate": rate})
    else:
        rate = ConfigDict({"make": "jaxmeta.domains.annealed", "init_value": 0.01})
        rate.decay_steps = config.get_oneway_ref("steps")
        config.optimizer = ConfigDict({"make": "optax.sgd", "learning_rate": rate, "momentum": 0.9})
    learner = {
        "make": "jaxmeta.learners.fixed_classifier",
        "head": head,
        "normalization": "transductive" if method == "adabn" else "running",
    }
    shared = {"learner": learner, "ways": shift.classes, "shots": 0, "queries": 500}
    accuracy = "jaxmeta.losses.accuracy"
    balanced = "jaxmeta.losses.balanced_accuracy"
    unlabeled = {
        name: f"jaxmeta.domains.{name}" for name in ("mutual_information", "prediction_entropy")
    }
    # The last checkpoint is the result. Choosing one by its accuracy on the target would use the
    # target's labels.
    config.evaluation.checkpoint = "last"
    config.evaluations = ConfigDict(
        {
            "source": {**shared, "split": "valid", "metrics": common.metrics(accuracy=accuracy)},
            "target": {
                **shared,
                "split": "test",
                "metrics": common.metrics(accuracy=accuracy, balanced_accuracy=balanced),
            },
            "unlabeled": {
                **shared,
                "split": "unlabeled",
                "metrics": common.metrics(**unlabeled),
            },
        },
        sort_keys=False,
    )
    return config


def perceptron(outputs: int, hidden: tuple[int, ...]) -> ConfigDict:
    """The spec of a multi-layer perceptron."""
    return ConfigDict({"make": "jaxmeta.nn.mlp", "outputs": outputs, "hidden": list(hidden)})
