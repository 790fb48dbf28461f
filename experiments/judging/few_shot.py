"""Solving few-shot tasks with the features of runs, the same tasks for all runs."""

import functools
from collections.abc import Callable

import jax
import numpy as np

from jaxmeta import probes
from jaxmeta.distributed.parallel import by_shard_map, replicate
from jaxmeta.evaluate import evaluator
from jaxmeta.losses import accuracy
from jaxmeta.runs import tasks
from jaxmeta.runs.config import evaluation_of, made
from jaxmeta.types import Learner, Metrics, Model, PyTree

from .runs import normalized_by, transferring
from .types import Asked, Prepared, Programs, Protocol, Run

CHOOSER = ("nearest_mean", 5)
"""The learner and the number of shots by which the better statistics are chosen."""


def few_shot_programs(reference: Run, protocol: Protocol) -> Programs:
    """The programs that solve few-shot tasks, the same tasks for every model."""
    config, sources = reference.config, reference.sources
    evaluation = evaluation_of(config)

    @functools.cache
    def compiled(model: Model, asked: Asked) -> Callable[..., Metrics]:
        spec = transferring(asked.learner, evaluation["ways"])
        learner = made(Learner, "learner", spec, protocol.trust, {"model": model})
        counts = {"ways": evaluation["ways"], "queries": evaluation["queries"]}
        sample = tasks.episode_sampler(
            sources[asked.split], asked.split, {**counts, "shots": asked.shots}, spec
        )
        metrics, over = {"accuracy": accuracy}, by_shard_map(jax.devices())
        return evaluator(learner, metrics, sample, asked.episodes, config["chunk"], over)

    return compiled


def reported(protocol: Protocol) -> list[Asked]:
    """The tasks that are reported."""
    return [
        Asked(name, shots, protocol.split, protocol.episodes)
        for name in protocol.learners
        for shots in protocol.shots
    ]


def choosing(reference: Run) -> Asked:
    """The validation tasks by which statistics are chosen."""
    return Asked(*CHOOSER, "valid", reference.config["evaluation"]["validation_episodes"])


def check_tasks(run: Run, prepared: Prepared) -> None:
    """Raises ``ValueError`` when a run cannot be judged on the tasks that are asked for."""
    statistics = normalized_by(run, prepared.protocol.statistics)
    asked = reported(prepared.protocol)
    if statistics in ("clean", "best"):
        jax.eval_shape(lambda: probes.all_examples(run.sources["train"]))
    if statistics == "best":
        asked.append(choosing(prepared.runs[0]))
        try:
            prepared.programs(run.model, asked[-1])
        except ValueError as error:
            raise ValueError(
                f"--statistics=best chooses by {asked[-1].shots} shots, and they cannot be drawn "
                f"({error}): give averaged or clean."
            ) from error
    for each in asked:
        given = arguments(run, run.state, each, prepared)
        jax.eval_shape(prepared.programs(run.model, each), *given)


def arguments(run: Run, state: PyTree, asked: Asked, prepared: Prepared) -> tuple[PyTree, ...]:
    """A program's arguments; its tasks follow from the data and the key, which runs share."""
    shared = prepared.runs[0]
    key = tasks.evaluation_key(shared.config, asked.split)
    return run.params, state, shared.sources[asked.split].data, key


def solve(run: Run, state: PyTree, asked: Asked, prepared: Prepared) -> np.ndarray:
    """The accuracy on each few-shot task."""
    given = replicate(arguments(run, state, asked, prepared), jax.devices())
    return np.asarray(prepared.programs(run.model, asked)(*given)["accuracy"], np.float64)
