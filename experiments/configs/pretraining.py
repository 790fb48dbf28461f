"""Methods that train features on one data set, with labels or without, and what they are used for.

``methods.configure`` takes them as well.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from . import common


class Data(NamedTuple):
    """A data set, and settings that suit its size.

    Attributes:
      spec: the spec of the sources.
      model: arguments of ``conv4``.
      inner_rate: MAML's inner learning rate, from which those of other methods follow.
      train_ways: ways of the training episodes, for methods that work with any number of ways.
      cosine: whether the classifier of all training classes is a cosine classifier.
      augment: the spec of the augmentation of the classifier's training images, each of which is
        seen many times.
      normalization: normalization of transferred features.
      views: the spec of the augmentation that makes views of training images without labels.
    """

    spec: ConfigDict
    model: Mapping[str, Any]
    inner_rate: float
    train_ways: int
    cosine: bool = True
    augment: Mapping[str, Any] = {}
    normalization: str = "transductive"
    views: Mapping[str, Any] = {}


def on_batches(
    data: Data, objective: Mapping[str, Any], size: int, weight_decay: float, state: str = ""
) -> ConfigDict:
    """An objective over two batches per step; the features of its embedding are transferred."""
    config = common.classification(ways=5, shots=1, queries=15)
    config.meta_batch = 2
    config.sample = ConfigDict({"batches": size})
    config.data = data.spec
    config.model = common.embedding(**data.model)
    config.objective = ConfigDict(objective)
    config.optimizer = common.descent(config, peak=0.1, weight_decay=weight_decay)
    config.evaluations = transferred(config, data, state=state)
    return config


def pretrained(data: Data) -> ConfigDict:
    """A classifier of all base classes."""
    return on_batches(data, changed(data, classifier(data)), size=64, weight_decay=1e-3)


def classifier(data: Data) -> dict[str, Any]:
    """The spec of the classifier's objective."""
    return {"make": "jaxmeta.pretraining.supervised", "cosine": data.cosine}


def random(data: Data) -> ConfigDict:
    """Features of the network at initialization."""
    config = pretrained(data)
    config.steps = 0
    config.optimizer = ConfigDict({"make": "optax.identity"})
    # It has no running averages, as it has seen no data.
    config.evaluations.nearest_mean.learner.normalization = "transductive"
    return config


def untrained(name: str, **arguments: Any) -> Callable[[Data], ConfigDict]:
    """Features of another network of ``jaxmeta.nn`` at initialization."""
    model = {"make": f"jaxmeta.nn.{name}", **arguments}
    return lambda data: random(data._replace(model=model))


ROTATION = {
    "make": "jaxmeta.pretraining.rotation",
    "head": {"make": "jaxmeta.nn.projector", "outputs": 4, "hidden": [512]},
}


def rotation(data: Data) -> ConfigDict:
    """Predicts quarter turns of images, without labels; each image is seen four times."""
    objective = changed(data, ROTATION)
    return on_batches(data, objective, size=32, weight_decay=1e-3, state="model")


def supervised_rotation(data: Data) -> ConfigDict:
    """A classifier of all base classes that also predicts quarter turns."""
    both = {"supervised": classifier(data), "rotation": ROTATION}
    objective = {"make": "jaxmeta.objectives.added", "objectives": both}
    return on_batches(
        data, changed(data, objective), size=64, weight_decay=1e-3, state="supervised"
    )


def changed(data: Data, objective: dict[str, Any]) -> dict[str, Any]:
    """The objective, on augmented images if the data set has an augmentation."""
    if not data.augment:
        return objective
    return {
        "make": "jaxmeta.objectives.augmented",
        "objective": objective,
        "augment": dict(data.augment),
    }


def self_supervised(data: Data, name: str, peak: float = 0.1, **arguments: Any) -> ConfigDict:
    """A method of ``jaxmeta.pretraining`` on two views of each image, without labels."""
    check_views(data, name)
    objective = {
        "make": "jaxmeta.objectives.two_views",
        "objective": {"make": f"jaxmeta.pretraining.{name}", **arguments},
        "augment": dict(data.views),
    }
    config = on_batches(data, objective, size=128, weight_decay=1e-4, state="model")
    config.optimizer = common.descent(config, peak=peak, weight_decay=1e-4)
    return config


def masked(data: Data) -> ConfigDict:
    """A masked autoencoder; the features of its vision transformer are transferred."""
    method = {"make": "jaxmeta.pretraining.mae", "mask_share": 0.75}
    method |= {"decoder_width": 96, "decoder_depth": 4, "decoder_heads": 3}
    # Tokens are normalized one by one, so there are no averages.
    alone = data._replace(normalization="transductive")
    config = on_batches(alone, changed(data, method), size=128, weight_decay=0.05)
    sizes = {"patch": 4, "width": 192, "depth": 6, "heads": 3}
    config.model = ConfigDict({"make": "jaxmeta.nn.vit", **sizes})
    config.optimizer = common.warmed_up(config, peak=1.5e-3, weight_decay=0.05)
    return config


def masked_words(data: Data) -> ConfigDict:
    """A transformer over words, pretrained by filling in masked ones."""
    method = {"make": "jaxmeta.pretraining.masked_words", "vocabulary": 10_000}
    # Tokens are normalized one by one, so there are no averages.
    alone = data._replace(normalization="transductive")
    config = on_batches(alone, method, size=64, weight_decay=0.01)
    config.model = ConfigDict({"make": "jaxmeta.nn.text_transformer"})
    config.optimizer = common.warmed_up(config, peak=1e-3, weight_decay=0.01)
    return config


def head(outputs: int, *hidden: int, **arguments: Any) -> dict[str, Any]:
    """The spec of a projector or a predictor."""
    return {
        "make": "jaxmeta.nn.projector",
        "outputs": outputs,
        "hidden": list(hidden),
        **arguments,
    }


def taught(data: Data, name: str, start: float = 0.99, **arguments: Any) -> ConfigDict:
    """A method whose teacher's momentum rises to 1 over the run."""
    config = self_supervised(data, name, **arguments)
    momentum = {"make": "jaxmeta.pretraining.rising", "start": start}
    config.objective.objective.momentum = ConfigDict(momentum)
    config.objective.objective.momentum.steps = config.get_oneway_ref("steps")
    return config


def transferred(config: ConfigDict, data: Data, **fields: Any) -> ConfigDict:
    """The evaluation of features by the nearest mean."""
    nearest_mean = transfer(
        "nearest_mean", ways=config.get_oneway_ref("ways"), normalization=data.normalization
    )
    return ConfigDict({"nearest_mean": {"learner": nearest_mean, **fields}}, sort_keys=False)


def transfer(name: str, **arguments: Any) -> ConfigDict:
    """A learner on the features of :func:`pretrained`."""
    return ConfigDict({"make": f"jaxmeta.learners.{name}", **arguments})


def check_views(data: Data, method: str) -> None:
    """Raises ``ValueError`` where there are no augmentations that make views of examples."""
    if not data.views:
        raise ValueError(
            f"'{method}' compares views, and {data.spec['make']} has no augmentations: choose a "
            "method without views, such as pretrained or masked_words."
        )


def protoclr(data: Data) -> ConfigDict:
    """Prototypical networks whose classes are single images, with augmentations as queries."""
    check_views(data, "protoclr")
    config = common.classification(ways=5, shots=1, queries=15)
    config.meta_batch = 1
    config.sample = ConfigDict({"instances": True, "ways": 50, "shots": 1, "queries": 3})
    config.data = data.spec
    config.model = common.embedding(**data.model)
    config.learner = common.prototypical(config)
    config.objective = unsupervised(data.views)
    return config


def unsupervised(change: Mapping[str, Any]) -> ConfigDict:
    """An episodic objective whose queries are augmentations of the support set."""
    return ConfigDict(
        {
            "make": "jaxmeta.objectives.augmented",
            "objective": {"make": "jaxmeta.objectives.episodic"},
            "augment": dict(change),
            "support": {"function": "jaxmeta.data.unchanged"},
        }
    )


NARROW, WIDE = head(128, 512), head(1024, 1024)
PRETRAINED: dict[str, Callable[[Data], ConfigDict]] = {
    "pretrained": pretrained,
    "random": random,
    "mean_of_words": untrained("mean_of_words"),
    "unweighted_mean_of_words": untrained("mean_of_words", weighted=False),
    "random_transformer": untrained("text_transformer"),
    "protoclr": protoclr,
    "simclr": lambda data: self_supervised(data, "simclr", projector=NARROW),
    "supcon": lambda data: self_supervised(data, "supcon", projector=NARROW),
    "moco_v2": lambda data: taught(data, "moco_v2", projector=NARROW),
    "moco_v3": lambda data: taught(data, "moco_v3", projector=NARROW, predictor=NARROW),
    "byol": lambda data: taught(data, "byol", projector=NARROW, predictor=NARROW),
    "simsiam": lambda data: self_supervised(
        data,
        "simsiam",
        projector=head(512, 512, normalized=True),
        predictor=head(512, 128),
    ),
    "barlow_twins": lambda data: self_supervised(data, "barlow_twins", projector=WIDE),
    # With a peak of 0.02, its loss of 25 and more diverges within ten steps.
    "vicreg": lambda data: self_supervised(data, "vicreg", peak=0.005, projector=WIDE),
    "dino": lambda data: taught(
        data, "dino", start=0.996, projector=head(64, 512), prototypes=1024
    ),
    "rotation": rotation,
    "supervised_rotation": supervised_rotation,
    "mae": masked,
    "masked_words": masked_words,
}
"""Methods that train features, which are then transferred, by name."""

TRANSFERRED: dict[str, ConfigDict] = {
    "nearest_mean": transfer("nearest_mean"),
    "fine_tuning_linear": transfer("fine_tuning"),
    "fine_tuning_cosine": transfer("fine_tuning", head="cosine"),
    "fine_tuning_entropy": transfer("fine_tuning", head="cosine", entropy=0.3),
    "fine_tuning_whole": transfer("fine_tuning", trained="all", steps=30, learning_rate=1e-3),
    "logistic_regression": transfer("logistic_regression"),
}
"""Learners that are evaluated on the features of a run of :data:`PRETRAINED`, by name."""
