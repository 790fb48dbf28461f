"""Evaluating a run's best checkpoint, and saying under which protocol."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from experiments import common
from jaxmeta.distributed.parallel import replicate
from jaxmeta.evaluate import evaluator, summarize
from jaxmeta.runs import workdir
from jaxmeta.runs.spec import build
from jaxmeta.types import Episode, Learner, PyTree, Source

VERSIONS = ("jaxmeta", "jax", "jaxlib", "flax", "optax")


def measure(
    folder: Path,
    source: Source,
    split: str,
    data: Mapping[str, Any] | None = None,
    trust: Sequence[str] = (),
    **overrides: int,
) -> dict[str, Any]:
    """Evaluates the best checkpoint of a run, and its baseline if it has one, on the same episodes.

    Args:
      folder: the run's.
      source: the tasks.
      split: which split the source is: ``"train"``, ``"valid"`` or ``"test"``.
      data: the spec of the source, when it is not the run's own data.
      trust: packages whose functions the run's config may name, as for ``restore``.
      **overrides: ``ways``, ``shots``, ``queries``, ``episodes`` or ``inner_steps``, when not the
        run's own.

    Returns:
      The result with its protocol, ready for JSON.
    """
    config = workdir.read_config(folder)
    changes = {
        argument: overrides[name]
        for name, argument in (("ways", "ways"), ("inner_steps", "steps"))
        if name in overrides
    }
    restored, info = workdir.load_best(folder, changes, trust)
    evaluation = config["evaluation"]
    episodes = overrides.get("episodes", evaluation["episodes"])
    protocol = {name: overrides.get(name, config[name]) for name in ("ways", "shots", "queries")}
    spec = workdir.evaluated_spec(config, changes)
    sample = common.sampler(source, split, protocol, spec)
    _check_inputs(jax.eval_shape(sample, source.data, jax.random.key(0)), folder, restored)
    key = common.evaluation_key(config, split)
    metric = build(config["metric"], trust)

    def figures(learner: Learner, params: PyTree, state: PyTree) -> dict[str, float]:
        devices = jax.devices()
        run = evaluator(learner, metric, sample, episodes, config["chunk"], devices)
        outcome = summarize(run(*replicate((params, state, source.data, key), devices)))
        return {"mean": outcome.mean, "ci95": outcome.ci95}

    data = config["data"] if data is None else data
    result = {
        "learner": common.name_of(spec),
        "data": {**data, "make": common.name_of(data)},
        "split": split,
        **protocol,
        "metric": common.name_of(config["metric"]),
        **figures(*restored),
        "episodes": episodes,
        "normalization": spec.get("normalization"),
        "mixed_precision": config.get("mixed_precision", False),
        "inner_steps": spec.get("steps"),
        "seed": config["seed"],
        "steps": config["steps"],
        "best_step": info["best_step"],
        "train_seconds": round(info["train_seconds"], 1),
        "backend": jax.default_backend(),
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "versions": {"python": platform.python_version(), **{n: version(n) for n in VERSIONS}},
    }
    if evaluation["baseline"] is not None:
        baseline = dict(evaluation["baseline"])
        if "ways" in spec:
            baseline["ways"] = spec["ways"]
        figures_of_baseline = figures(
            build(baseline, trust, model=workdir.build_model(config, trust)), (), ()
        )
        result["baseline"] = {"learner": common.name_of(baseline), **figures_of_baseline}
    return result


def _check_inputs(episode: Episode, folder: Path, restored: workdir.Restored) -> None:
    """Raises ``ValueError`` when inputs are not alike to the training's and the learner fails.

    Inputs of another size alone may do: an embedding serves images of several.
    """

    def inputs(episode: Episode) -> list[str]:
        leaves = jax.tree.leaves(episode.support.x)
        return [f"{leaf.dtype}{list(leaf.shape[1:])}" for leaf in leaves]

    key = jax.random.key(0)
    given, expected = inputs(episode), inputs(workdir.read_shapes(folder))
    try:
        jax.eval_shape(restored.learner.adapt, *restored[1:], episode.support, key)
    except (TypeError, ValueError) as error:
        if given == expected:
            raise
        raise ValueError(
            f"The inputs are {', '.join(given)} and those of the training were "
            f"{', '.join(expected)}: give data of the same kind."
        ) from error
