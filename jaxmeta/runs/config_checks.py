"""Checks of a config: each mistake is reported in one sentence, before anything is built."""

import math
import os
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxmeta.checks import check_count
from jaxmeta.runs.spec import suggest

EVALUATION = (
    *("learner", "metrics", "params", "state", "split", "ways", "shots", "queries", "outside"),
)
"""The fields of an evaluation."""
CHECKPOINTS = ("best", "last")
"""The checkpoints that a run keeps for evaluation: by validation, and by time."""
SAMPLE = (
    *("ways", "shots", "queries", "least_ways", "least_shots"),
    *("imbalanced", "unlabeled", "distractors", "outside", "exponent"),
)
"""The fields of ``sample`` for episodes."""


def check_config(config: Mapping[str, Any]) -> None:
    """Checks the fields of a complete config.

    Raises:
      ValueError: a field is of the wrong kind, a field within it is unknown, or counts do not fit
        together.
    """
    for field in ("sample", "rates", "init_from", "evaluations"):
        check_fields(f"config.{field}", config[field])
    if not config["evaluations"]:
        raise ValueError("config.evaluations is empty: name what is evaluated.")
    for name, each in config["evaluations"].items():
        check_fields(f"config.evaluations.{name}", each)
        check_names(f"config.evaluations.{name}", each, EVALUATION)
        check_fields(f"config.evaluations.{name}.learner", each.get("learner", {}))
    _check_sample("config.sample", config["sample"])
    _check_specs(config)
    _check_counts(config)


def plain(value: Any, where: str) -> Any:
    """A config as plain dictionaries and lists, including those of ml_collections within lists.

    Every level keeps its order, as the first metric and the first evaluation choose the checkpoint.

    Raises:
      ValueError: a value cannot be represented in JSON.
    """
    if hasattr(value, "items"):  # which resolves the references of a ConfigDict
        return {str(name): plain(each, f"{where}.{name}") for name, each in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return [plain(each, f"{where}[{i}]") for i, each in enumerate(value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    # JSON has no NaN, which is unequal to itself: a folder would seem to belong to another run.
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise ValueError(
        f"{where} is {reprlib.repr(value)}, which a run's config.json cannot hold: give a finite "
        "number, a text, or the name of the function that makes it, as in {'make': 'optax.adam'}."
    )


def check_names(where: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raises ``ValueError`` if a field is not among the known ones."""
    for field in given:
        if field not in known:
            raise ValueError(f"{where} has no field '{field}': {suggest(field, known)}.")


def check_fields(where: str, value: Any) -> None:
    """Raises ``ValueError`` unless the value is a dictionary."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is {reprlib.repr(value)}: give a dictionary of its fields.")


def _check_sample(where: str, sample: Mapping[str, Any]) -> None:
    """Checks the fields of episodes, of batches, or of a sampler that a function makes."""
    if "make" in sample:
        if "sample" in sample:
            check_fields(f"{where}.sample", sample["sample"])
            _check_sample(f"{where}.sample", sample["sample"])
    elif sample.get("instances"):
        check_names(where, sample, ("instances", *SAMPLE[:3]))
    elif "batches" in sample:
        check_names(where, sample, ("batches", "exponent", *SAMPLE[:3]))
        check_count(f"{where}.batches", sample["batches"], least=1)
    else:
        check_names(where, sample, SAMPLE)


def _check_specs(config: Mapping[str, Any]) -> None:
    """Checks that every field that has to name a function does."""
    named = [
        (field, config[field], key, example)
        for field, key, example in (
            ("data", "make", "jaxmeta.data.glyphs"),
            ("model", "make", "jaxmeta.nn.conv4"),
            ("learner", "make", "jaxmeta.learners.maml"),
            ("objective", "make", "jaxmeta.objectives.episodic"),
            ("estimator", "make", "jaxmeta.gradients.pcgrad"),
            ("optimizer", "make", "optax.adam"),
            ("loss", "function", "jaxmeta.losses.cross_entropy"),
        )
        if config[field] or field not in ("learner", "estimator")  # which may be left out
    ]
    # An evaluation without metrics of its own uses the config's.
    own = {f"evaluations.{name}.": each for name, each in config["evaluations"].items()}
    for where, each in {"": config, **own}.items():
        if not where or "metrics" in each:
            check_fields(f"config.{where}metrics", each["metrics"])
            if not each["metrics"]:
                raise ValueError(f"config.{where}metrics is empty: the first chooses checkpoints.")
            named += [
                (f"{where}metrics.{name}", spec, "function", "jaxmeta.losses.accuracy")
                for name, spec in each["metrics"].items()
            ]
    for field, spec, key, example in named:
        known = isinstance(spec, Mapping) and ("make" in spec or "function" in spec)
        if not known:
            raise ValueError(
                f"config.{field} is {reprlib.repr(spec)}: name a function, as in "
                f"{{'{key}': '{example}'}}."
            )


def _check_counts(config: Mapping[str, Any]) -> None:
    evaluation, every = config["evaluation"], config["evaluation"]["every"]
    for name, value, least in (
        ("steps", config["steps"], 0),
        ("meta_batch", config["meta_batch"], 1),
        ("log_every", config["log_every"], 1),
        ("evaluation.validation_episodes", evaluation["validation_episodes"], 2),
        ("evaluation.episodes", evaluation["episodes"], 2),
        ("seed", config["seed"], 0),
        ("evaluation.seed", evaluation["seed"], 0),
        *((field, config[field], 1) for field in ("ways", "queries")),
        ("shots", config["shots"], 0),
    ):
        check_count(f"config.{name}", value, least)
    if evaluation["checkpoint"] not in CHECKPOINTS:
        raise ValueError(
            f"config.evaluation.checkpoint is {evaluation['checkpoint']!r}: give "
            f"{' or '.join(map(repr, CHECKPOINTS))}."
        )
    for part, rate in config["rates"].items():
        if isinstance(rate, bool) or not isinstance(rate, int | float) or rate < 0:
            raise ValueError(
                f"config.rates['{part}'] is {rate!r}: give a number, 0 to freeze the part."
            )
    schedule = config["optimizer"].get("learning_rate")
    decay = schedule.get("decay_steps") if isinstance(schedule, Mapping) else None
    for name, value in (
        ("chunk", config["chunk"]),
        ("optimizer.learning_rate.decay_steps", decay),
    ):
        if value is not None:
            check_count(f"config.{name}", value, least=1)
    if not isinstance(every, int) or every < 1 or every % config["log_every"]:
        raise ValueError(
            f"config.evaluation.every is {every!r}: give a multiple of config.log_every, which is "
            f"{config['log_every']}."
        )
    learner = config["learner"] or {}
    if learner.get("normalization") == "running":
        raise ValueError(
            "config.learner.normalization is 'running', whose averages that training would never "
            "move: train with 'transductive', and set it in config.evaluations."
        )
    for name, each in config["evaluations"].items():
        own, trained = each.get("learner", {}), learner.get("steps")
        steps = own.get("steps")
        if "make" not in own and trained is not None and steps is not None and steps < trained:
            raise ValueError(
                f"config.evaluations.{name}.learner.steps is {steps}, fewer than "
                f"config.learner.steps, which is {trained}: set both."
            )
