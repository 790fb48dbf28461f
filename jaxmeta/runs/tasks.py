"""The tasks of a config: its sources, and the samplers for training and evaluation."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxmeta.data import without_support
from jaxmeta.keys import Streams, streams
from jaxmeta.learners.frames.support import check_labels
from jaxmeta.runs.config import ways_of
from jaxmeta.runs.spec import EVERYTHING, build, resolve
from jaxmeta.types import UNLABELED, Episode, Key, PyTree, Sampler, Source

SPLITS = ("train", "valid", "test")
EACH_ONCE = tuple(
    f"jaxmeta.gradients.{name}"
    for name in (
        *("fixed_weights", "pcgrad", "mgda", "cagrad", "nash_mtl", "imtl_g", "aligned_mtl"),
        "balanced",
    )
)
"""Estimators that weigh the tasks of a step against each other, by what they are."""


def load_sources(
    config: Mapping[str, Any], data_dir: str | None, trust: Sequence[str] = EVERYTHING
) -> dict[str, Source]:
    """The train, valid and test sources of a config.

    ``data_dir`` is for data that are read from it; glyphs, for example, do not use it.
    """
    fill = {"data_dir": data_dir} if data_dir else {}
    sources: dict[str, Source] = build(config["data"], trust, fill=fill, data_sets=True)
    if not isinstance(sources, Mapping) or not all(
        isinstance(sources.get(split), Source) for split in SPLITS
    ):
        raise ValueError(
            f"config.data makes a {type(sources).__name__}: name a function that returns a "
            f"dictionary of the sources {', '.join(SPLITS)}."
        )
    return sources


def with_classes(config: Mapping[str, Any], source: Source) -> dict[str, Any]:
    """The config with the training split's number of classes in its objective, if it takes one.

    >>> from jaxmeta.data import array_source
    >>> source = array_source([[0.0], [1.0], [2.0]], ["ant", "bee", "cat"])
    >>> config = {"objective": {"make": "jaxmeta.pretraining.supervised"}}
    >>> with_classes(config, source)["objective"]["classes"]
    3
    """

    def told(spec: Mapping[str, Any]) -> Mapping[str, Any]:
        # Written into the config, as a run is restored without its data.
        takes = inspect.signature(resolve(spec["make"], EVERYTHING)).parameters
        missing = "classes" in takes and spec.get("classes") is None
        return {**spec, "classes": source.classes} if missing else spec

    if source.classes is None:
        return dict(config)
    return {**config, "objective": _mapped(told, config["objective"])}


def _mapped(
    change: Callable[[Mapping[str, Any]], Mapping[str, Any]], spec: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The spec of an objective, with ``change`` applied to those inside that contain no other."""
    if "objective" in spec:  # as `augmented` has one
        return {**spec, "objective": _mapped(change, spec["objective"])}
    if "objectives" in spec:  # as `added` has several
        several = spec["objectives"].items()
        return {**spec, "objectives": {name: _mapped(change, each) for name, each in several}}
    return change(spec)


def training_sampler(source: Source, config: Mapping[str, Any]) -> Sampler:
    """The training sampler: of episodes, of batches of examples, or of what a function makes.

    A function named by ``config.sample`` is given the source and, if its spec has a field
    ``sample``, the sampler that this describes.

    Raises:
      ValueError: the split cannot fill such an episode, has no classes, or has other classes than
        the objective is built for; or tasks are weighed that a step does not have once each.
    """
    fields = config["sample"]
    if "make" in fields:
        if "sample" in fields:
            inner = training_sampler(source, {**config, "sample": fields["sample"]})
            fields = {**fields, "sample": inner}
        made: Sampler = build(fields, EVERYTHING, fill={"source": source})
        return made
    if fields.get("exponent") is not None and source.tasks is None:
        raise ValueError(
            f"config.sample.exponent is {fields['exponent']}, but the train split has no tasks to "
            "choose from: leave it out."
        )
    if "batches" not in fields:
        protocol = {**{name: config[name] for name in ("ways", "shots", "queries")}, **fields}
        if fields.get("instances"):
            return _instances(source, protocol)
        return episode_sampler(source, "train", protocol, config["learner"] or {})
    if source.batches is None:
        raise ValueError(
            "The data of the train split have no classes to train on without episodes: leave "
            "config.sample.batches out."
        )

    def checked(spec: Mapping[str, Any]) -> Mapping[str, Any]:
        classes = spec.get("classes")
        if classes is not None and source.classes is not None and classes < source.classes:
            raise ValueError(
                f"config.objective.classes is {classes} but the train split has {source.classes}: "
                "give their number."
            )
        return spec

    _mapped(checked, config["objective"])
    _check_weighed(config, source)
    if fields.get("exponent") is None:
        return source.batches(fields["batches"])
    return source.batches(fields["batches"], exponent=fields["exponent"])


def _check_weighed(config: Mapping[str, Any], source: Source) -> None:
    """Raises ``ValueError`` if tasks are weighed of which a step may have one twice, or not all."""
    make = (config.get("estimator") or {"make": ""})["make"]
    if source.tasks is None or make not in EACH_ONCE:
        return
    exponent = config["sample"].get("exponent")
    if exponent is not None or config["meta_batch"] != source.tasks:
        raise ValueError(
            f"config.estimator weighs the tasks of a step, which must be each of the "
            f"{source.tasks} tasks once: set config.meta_batch, {config['meta_batch']}, to "
            f"{source.tasks} and leave config.sample.exponent, {exponent}, out."
        )


def _instances(source: Source, protocol: Mapping[str, Any]) -> Sampler:
    """The sampler of episodes whose classes are single examples."""
    if source.instances is None:
        raise ValueError(
            "The data of the train split have no fixed examples to make classes of: leave "
            "config.sample.instances out."
        )
    return source.instances(protocol["ways"], protocol["shots"], protocol["queries"])


def episode_sampler(
    source: Source, split: str, protocol: Mapping[str, Any], learner: Mapping[str, Any]
) -> Sampler:
    """The sampler of a split's episodes, for the learner of a spec.

    Episodes with fewer ways than the learner was built for are padded to its number. With
    ``least_ways`` or ``least_shots``, each episode draws a number from that to ``ways`` or
    ``shots``.

    Without shots, the task is the whole split, each of whose examples is a query, labeled among all
    classes; or, if the split has several tasks, each of them in turn.

    Raises:
      ValueError: the split cannot fill such an episode, or the learner is built for fewer ways.
    """
    if protocol["shots"] == 0:
        if source.whole is None:
            raise ValueError(
                f"config.shots is 0 but the data of the {split} split have no fixed examples to "
                "predict: give shots of 1 or more."
            )
        return without_support(source.whole)
    options: dict[str, Any] = {**protocol}
    for count in ("ways", "shots"):
        least = options.pop(f"least_{count}", None)
        if least is not None:
            options[count] = (least, protocol[count])
    ways, most = protocol["ways"], ways_of(learner)
    if most is not None and most < ways:
        raise ValueError(
            f"The learner tells {most} ways apart and episodes of the {split} split have {ways}: "
            "give the learner more ways, or the episodes fewer."
        )
    padding = {"max_ways": most} if most is not None and most > ways else {}
    try:
        return source.episodes(**options, **padding)
    except ValueError as error:
        raise ValueError(f"No such episodes of the {split} split: {error}") from error


def check_drawn_labels(sample: Sampler, data: PyTree, ways: int | None) -> None:
    """Checks the labels of one drawn task, which are known, unlike those in a compiled program.

    Raises:
      ValueError: a label lies outside the ways.
    """
    if ways is None:
        return
    task = draw(sample, data, jax.random.key(0))
    if isinstance(task, Episode):
        check_labels(np.asarray(task.support.y), ways, least=UNLABELED)
        check_labels(np.asarray(task.query.y), ways)


def draw(sample: Sampler, data: PyTree, key: Key) -> Any:
    """One task, drawn on one device wherever the data are, so that any process may draw it."""
    return jax.jit(sample)(jax.tree.map(np.asarray, data), key)


def run_streams(config: Mapping[str, Any]) -> Streams:
    """The keys of a config's run."""
    return streams(config["seed"], config["evaluation"]["seed"])


def evaluation_key(config: Mapping[str, Any], split: str) -> Key:
    """The key of a split's evaluation episodes, which every run and method shares."""
    keys = run_streams(config)
    known = {"train": keys.train_episodes, "valid": keys.valid}
    return known.get(split, keys.test)
