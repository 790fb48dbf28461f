"""Evaluating a run's checkpoint, and reporting the protocol."""

import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxmeta.data import PlacedSampler
from jaxmeta.distributed.microbatches import Spread
from jaxmeta.distributed.parallel import by_shard_map, replicate
from jaxmeta.evaluate import evaluator, over_all, summarize
from jaxmeta.runs import tasks, workdir
from jaxmeta.runs.config import (
    build_learner,
    evaluation_of,
    learner_spec,
    made_function,
    name_of,
)
from jaxmeta.runs.spec import suggest
from jaxmeta.types import Episode, Key, Learner, Loss, Metrics, PyTree, Sampler, Source

VERSIONS = ("jaxmeta", "jax", "jaxlib", "flax", "optax")


class Judged(NamedTuple):
    """What an evaluation of a config evaluates, on which episodes, and by which metrics.

    Attributes:
      spec: the spec of the learner.
      learner: the learner.
      sample: draws an episode.
      protocol: ``ways``, ``shots`` and ``queries``, and ``outside`` if there are any.
      metrics: by name, in the config's order.
      split: the split that it is on.
    """

    spec: Mapping[str, Any]
    learner: Learner
    sample: Sampler
    protocol: Mapping[str, int]
    metrics: Mapping[str, Loss]
    split: str

    def program(
        self, episodes: int, chunk: int | None, spread: Spread
    ) -> Callable[[PyTree, PyTree, PyTree, Key], Metrics]:
        """Compiles the evaluation, on so many episodes or, without shots, on all examples."""
        if isinstance(self.sample, PlacedSampler):
            return evaluator(
                self.learner, self.metrics, self.sample, self.sample.places, chunk, spread
            )
        if self.protocol["shots"] == 0:
            batch = self.protocol["queries"]
            return over_all(self.learner, self.metrics, self.sample, batch, spread)
        return evaluator(self.learner, self.metrics, self.sample, episodes, chunk, spread)


def judged(
    config: Mapping[str, Any],
    name: str,
    sources: Mapping[str, Source],
    split: str,
    trust: Sequence[str] = (),
    changes: Mapping[str, Any] | None = None,
    overrides: Mapping[str, int] | None = None,
) -> Judged:
    """Builds an evaluation of a complete config, by its name.

    Args:
      config: the config.
      name: the evaluation's name.
      sources: the tasks of each split.
      split: the split of evaluations without one of their own.
      trust: packages whose functions may be named.
      changes: arguments of the learner that differ.
      overrides: ``ways``, ``shots`` and ``queries`` that differ.

    Raises:
      ValueError: there is no such learner or split, or the split cannot fill such an episode.
    """
    evaluation, spec = evaluation_of(config, name), learner_spec(config, name, changes)
    split = evaluation["split"] or split
    if split not in sources:
        raise ValueError(
            f"config.evaluations.{name}.split is '{split}': {suggest(split, sources)}."
        )
    fields, own = ("ways", "shots", "queries"), overrides or {}
    if not evaluation["shots"] and (own.get("shots") or "ways" in own):
        raise ValueError(
            f"The evaluation '{name}' has no support sets, as its classes are fixed: leave out "
            "shots and ways."
        )
    protocol = {field: own.get(field, evaluation[field]) for field in fields}
    if evaluation["outside"] and not protocol["shots"]:
        raise ValueError(
            f"config.evaluations.{name}.outside is {evaluation['outside']}, but with shots of 0 "
            "there are no ways to be outside of: leave it out."
        )
    if evaluation["outside"]:
        protocol["outside"] = evaluation["outside"]
    return Judged(
        spec,
        build_learner(config, spec, trust),
        tasks.episode_sampler(sources[split], split, protocol, spec),
        protocol,
        {
            each: made_function(f"metrics.{each}", spec_of, trust)
            for each, spec_of in evaluation["metrics"].items()
        },
        split,
    )


def measure(
    folder: Path,
    sources: Mapping[str, Source],
    split: str,
    data: Mapping[str, Any] | None = None,
    trust: Sequence[str] = (),
    checkpoint: str | None = None,
    **overrides: int,
) -> dict[str, Any]:
    """Evaluates a checkpoint of a run, with all the evaluations that its config names.

    Args:
      folder: the run's folder.
      sources: the tasks of each split.
      split: ``"train"``, ``"valid"`` or ``"test"``, for evaluations without a split of their own.
      data: the spec of the sources, if they are not the run's own data.
      trust: packages whose functions the run's config may name; see
        :mod:`jaxmeta.runs.spec`.
      checkpoint: ``"best"``, the best one by validation, or ``"last"``; by default what the
        config asks for.
      **overrides: ``ways``, ``shots``, ``queries``, ``episodes`` or ``inner_steps`` of the first
        evaluation, if not the run's own; the other evaluations share its episodes.

    Returns:
      The result with its protocol, ready for JSON; ``evaluations`` holds one row per name.
    """
    config = workdir.read_config(folder)
    checkpoint = checkpoint or config["evaluation"]["checkpoint"]
    episodes = overrides.get("episodes", config["evaluation"]["episodes"])
    rows: dict[str, Any] = {}
    info: dict[str, Any] = {}
    for place, name in enumerate(config["evaluations"]):
        changes = {"ways": overrides["ways"]} if "ways" in overrides else {}
        if place == 0 and "inner_steps" in overrides:
            changes["steps"] = overrides["inner_steps"]
        restored, info = workdir.load_trained(folder, name, changes, trust, checkpoint)
        tried = judged(config, name, sources, split, trust, changes, overrides)
        source = sources[tried.split]
        _check_inputs(
            jax.eval_shape(tried.sample, source.data, jax.random.key(0)), folder, restored
        )
        devices = jax.devices()
        run = tried.program(episodes, config["chunk"], by_shard_map(devices))
        key = tasks.evaluation_key(config, tried.split)
        in_turn = isinstance(tried.sample, PlacedSampler)
        values = run(*replicate((restored.params, restored.state, source.data, key), devices))
        rows[name] = {
            "learner": name_of(tried.spec),
            "normalization": tried.spec.get("normalization"),
            "inner_steps": tried.spec.get("steps"),
            "split": tried.split,
            **tried.protocol,
            "metrics": {
                each: {
                    "mean": outcome.mean,
                    "ci95": outcome.ci95,
                    **({"tasks": values[each].tolist()} if in_turn else {}),
                }
                # In the config's order, as compiled programs sort names.
                for each in tried.metrics
                for outcome in [summarize(values[each])]
            },
        }
    data = config["data"] if data is None else data
    return {
        "data": {**data, "make": name_of(data)},
        "split": split,
        # Without support sets there are no episodes, as all examples are predicted.
        "episodes": episodes if any(row["shots"] for row in rows.values()) else None,
        "evaluations": rows,
        "checkpoint": checkpoint,
        "mixed_precision": config["mixed_precision"],
        "seed": config["seed"],
        "steps": config["steps"],
        "best_step": info["best_step"],
        "step": info["step"],
        "train_seconds": round(info["train_seconds"], 1),
        "backend": jax.default_backend(),
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "versions": {"python": platform.python_version(), **{n: version(n) for n in VERSIONS}},
    }


def _check_inputs(episode: Episode, folder: Path, restored: workdir.Restored) -> None:
    """Raises ``ValueError`` if inputs differ from those of training and the learner fails.

    Inputs that differ only in size may work: an embedding can take images of several sizes.
    """

    def inputs(episode: Episode) -> list[str]:
        leaves = jax.tree.leaves(episode.support.x)
        return [f"{leaf.dtype}{list(leaf.shape[1:])}" for leaf in leaves]

    key = jax.random.key(0)
    given, expected = inputs(episode), inputs(workdir.read_shapes(folder).episode)
    try:
        jax.eval_shape(restored.learner.adapt, *restored[1:], episode.support, key)
    except (TypeError, ValueError) as error:
        if given == expected:
            raise
        raise ValueError(
            f"The inputs are {', '.join(given)} and those of the training were "
            f"{', '.join(expected)}: give data of the same kind."
        ) from error
