"""What the entry points share: from a config to data, samplers and keys."""

import inspect
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxmeta import learners
from jaxmeta.checks import check_count
from jaxmeta.distributed.parallel import sharing
from jaxmeta.distributed.processes import is_primary
from jaxmeta.runs.spec import build, resolve
from jaxmeta.types import UNLABELED, Episode, Key, PyTree, Sampler, Source

NEEDED = ("data", "model", "learner", "loss", "metric", "higher_is_better")


def plain(config: ConfigDict) -> dict[str, Any]:
    """A config as plain dictionaries, all references resolved, having checked its counts.

    Raises:
      ValueError: a field is missing, a count is too small, or two counts do not go together.
    """
    fields: dict[str, Any] = config.copy_and_resolve_references().to_dict()
    for field in NEEDED:
        if field not in fields:
            raise ValueError(f"The config has no field '{field}': add it to its file.")
    evaluation, chunk = fields["evaluation"], fields["chunk"]
    schedule = fields["optimizer"].get("learning_rate")
    decay = schedule.get("decay_steps") if isinstance(schedule, dict) else None
    for name, value, least in (
        ("steps", fields["steps"], 0),
        ("meta_batch", fields["meta_batch"], 1),
        ("log_every", fields["log_every"], 1),
        ("evaluation.validation_episodes", evaluation["validation_episodes"], 2),
        ("evaluation.episodes", evaluation["episodes"], 2),
        ("chunk", chunk, 1),
        ("optimizer.learning_rate.decay_steps", decay, 1),
    ):
        if value is not None:
            check_count(f"config.{name}", value, least)
    if fields["learner"].get("normalization") == "running":
        raise ValueError(
            "config.learner.normalization is 'running', whose averages that training would never "
            "move: train with 'transductive', and set config.evaluation.learner.normalization."
        )
    if fields["learner"].get("first_order_until") and name_of(fields["objective"]) == "episodic":
        raise ValueError(
            f"config.learner.first_order_until is {fields['learner']['first_order_until']}, but "
            "episodic does not count outer steps: set config.objective.make to "
            "jaxmeta.objectives.multi_step, with annealing_steps."
        )
    augment = fields.pop("augment", None)
    if augment:
        if "make" not in augment and set(augment) != {"function"}:
            raise ValueError(
                f"config.augment is {augment}, which names no function: set config.augment.make."
            )
        fields["augment"] = augment
    every = evaluation["every"]
    if every < 1 or every % fields["log_every"]:
        raise ValueError(
            f"config.evaluation.every is {every}: give a multiple of config.log_every, which is "
            f"{fields['log_every']}."
        )
    if chunk is not None and fields["meta_batch"] % chunk:
        raise ValueError(
            f"config.chunk is {chunk}: give a divisor of config.meta_batch, which is "
            f"{fields['meta_batch']}."
        )
    trained, evaluated = (fields["learner"].get("steps"), evaluation["learner"].get("steps"))
    if trained is not None and evaluated is not None and evaluated < trained:
        raise ValueError(
            f"config.evaluation.learner.steps is {evaluated}, fewer than config.learner.steps, "
            f"which is {trained}: set both."
        )
    return fields


def load_sources(
    config: Mapping[str, Any], data_dir: str | None, trust: Sequence[str] = ()
) -> dict[str, Source]:
    """The train, valid and test task distributions of a config.

    ``data_dir`` is for data that lie in it; glyphs, say, have no use for it.
    """
    takes_it = "data_dir" in inspect.signature(resolve(config["data"]["make"], trust)).parameters
    context = {"data_dir": data_dir} if data_dir and takes_it else {}
    sources: dict[str, Source] = build(config["data"], trust, **context)
    return sources


def sampler(
    source: Source, split: str, protocol: Mapping[str, int], learner: Mapping[str, Any]
) -> Sampler:
    """The sampler of a split's episodes, or batches of examples, for the learner of a spec.

    Episodes of fewer ways than the learner was built for are padded to those. With ``least_ways``
    or ``least_shots`` each episode draws its number, from that to ``ways`` or ``shots``.

    Raises:
      ValueError: the split cannot fill such an episode, or the learner is built for fewer ways or
        classes.
    """
    if "examples" in protocol:
        if source.examples is None:
            raise ValueError(
                f"The data of the {split} split have no classes to train on without episodes: "
                "leave config.train.examples out."
            )
        check_classes(source, split, learner.get("classes"))
        return source.examples(protocol["examples"])
    options: dict[str, Any] = {**protocol}
    for count in ("ways", "shots"):
        least = options.pop(f"least_{count}", None)
        if least is not None:
            options[count] = (least, protocol[count])
    ways, most = protocol["ways"], learner.get("ways")
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


def check_classes(source: Source, split: str, classes: int | None) -> None:
    """Checks a classifier of all classes of a split by whether that can fill one more way.

    Raises:
      ValueError: it can, so that there are examples of classes which the classifier does not have.
    """
    if classes is None:
        return
    try:
        source.episodes(classes + 1, 1, 1)
    except ValueError:
        return
    raise ValueError(
        f"config.learner.classes is {classes} but the {split} split has more: give their number."
    )


def check_labels(sample: Sampler, data: PyTree, ways: int | None) -> None:
    """Draws an episode, whose labels are then known, unlike those of the compiled program.

    Raises:
      ValueError: a label lies outside the ways.
    """
    if ways is not None:
        support, query = draw(sample, data, jax.random.key(0))
        learners.frames.support.check_labels(np.asarray(support.y), ways, least=UNLABELED)
        learners.frames.support.check_labels(np.asarray(query.y), ways)


def draw(sample: Sampler, data: PyTree, key: Key) -> Episode:
    """One episode, drawn on one device wherever the data lie, so that any process may."""
    return jax.jit(sample)(jax.tree.map(np.asarray, data), key)


def devices_for(tasks: int) -> list[jax.Device]:
    """The devices that share the tasks of a step, having said so when some stay idle."""
    devices = sharing(tasks)
    if len(devices) < jax.device_count():
        say(
            f"Training on {len(devices)} of {jax.device_count()} devices: with more, none would "
            f"have fewer of the {tasks} tasks of a step."
        )
    return devices


def say(sentence: str) -> None:
    """Tells on stderr; of several processes, the first one does."""
    if is_primary():
        print(sentence, file=sys.stderr)


def evaluation_key(config: Mapping[str, Any], split: str) -> Key:
    """The key of a split's evaluation episodes.

    It does not depend on the run's seed, so every run and method is judged on the same episodes.
    """
    key = jax.random.key(config["evaluation"]["seed"])
    return jax.random.fold_in(key, ("train", "valid", "test").index(split))


def name_of(spec: Mapping[str, Any]) -> str:
    """The last part of the dotted name that a spec holds."""
    dotted: str = spec["function"] if "function" in spec else spec["make"]
    return dotted.rpartition(".")[2]
