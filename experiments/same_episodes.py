"""Training and evaluating methods on the same episodes, for ``experiments.compare``."""

import importlib
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmeta.distributed.parallel import by_shard_map, replicate
from jaxmeta.distributed.processes import say
from jaxmeta.evaluate import evaluator, summarize
from jaxmeta.runs import EVERYTHING, Diverged, prepare, tasks, train, workdir
from jaxmeta.runs.config import build_metrics, complete, learner_spec, name_of
from jaxmeta.runs.run import Run
from jaxmeta.runs.spec import suggest
from jaxmeta.types import Key, Learner, PyTree, Sampler

from . import program
from .configs import methods, pretraining
from .report import report

PRETRAINED = "pretrained"
VALIDATIONS = 5  # of each run, at least
TIMED = 20
MIB = 2**20


class Protocol(NamedTuple):
    """What all methods share.

    Attributes:
      ways: classes of a test episode.
      shots: support examples per class; each number is evaluated.
      queries: query examples per class.
      episodes: test episodes for each number of shots.
      steps: outer steps of every run; ``None`` for its config's own.
      seed: seed of the training.
      data_dir: folder of the data.
    """

    ways: int
    shots: Sequence[int]
    queries: int
    episodes: int
    steps: int | None
    seed: int
    data_dir: str | None


def chosen(names: Sequence[str]) -> list[str]:
    """The methods that were asked for; raises ``ValueError`` for an unknown one."""
    every = [*methods.TRAINED, *pretraining.TRANSFERRED]
    others = [
        f"{run}+{learner}" for run in pretraining.PRETRAINED for learner in pretraining.TRANSFERRED
    ]
    for name in names:
        known = [*every, *pretraining.PRETRAINED, *others]
        if name not in (*known, "all"):
            raise ValueError(f"There is no method '{name}': {suggest(name, known)}.")
    if not names:
        raise ValueError(f"--learners is empty: give all, or some of {', '.join(every)}.")
    return every if "all" in names else list(dict.fromkeys(names))


def chosen_shots(values: Sequence[str]) -> list[int]:
    """The numbers of shots, in order; raises ``ValueError`` if one is not a positive integer."""
    try:
        shots = sorted({int(value) for value in values})
    except ValueError:
        shots = []
    if not shots or shots[0] < 1:
        raise ValueError(
            f"--shots is '{','.join(values)}': give positive integers with commas between."
        )
    return shots


def chosen_reference(names: Sequence[str], name: str | None) -> str:
    """The method that others are compared with; raises ``ValueError`` if it is not in ``names``."""
    if name is None:
        return "prototypical" if "prototypical" in names else names[0]
    if name not in names:
        raise ValueError(f"--reference is '{name}', which is not compared: add it to --learners.")
    return name


def load_data(name: str) -> methods.Data:
    """The data set of a module, by the module's name."""
    dotted = name if "." in name else f"{__package__}.configs.{name}"
    try:
        data: methods.Data = importlib.import_module(dotted).DATA
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(
            f"--data is '{name}', but no DATA can be had from {dotted} ({error}): give omniglot, "
            "cifar_fs, glyphs, or the dotted name of a module of your own."
        ) from error
    return data


def configure(data: methods.Data, run: str, protocol: Protocol) -> dict[str, Any]:
    """The config of a run, as it is trained here."""
    config = methods.configure(data, run)
    config.seed = protocol.seed
    config.ways = protocol.ways
    if protocol.steps is not None and config.steps > 0:
        config.steps = protocol.steps
        apart = protocol.steps // VALIDATIONS // config.log_every
        config.evaluation.every = max(apart, 1) * config.log_every
    return complete(config)


def check_episodes(data: methods.Data, protocol: Protocol) -> None:
    """Raises ``ValueError`` before anything is trained when the test classes are too small."""
    source = tasks.load_sources({"data": data.spec.to_dict()}, protocol.data_dir)["test"]
    for shots in protocol.shots:
        counts = {"ways": protocol.ways, "shots": shots, "queries": protocol.queries}
        tasks.episode_sampler(source, "test", counts, {})


def check_runs(folder: Path, names: Sequence[str], data: methods.Data, protocol: Protocol) -> None:
    """Raises, before anything is trained, if a run that is still to be trained cannot be."""
    pending = {run_of(name) for name in names if recall(folder, name, data, protocol) is None}
    # In a temporary folder, so that a run that is refused does not claim its own.
    with tempfile.TemporaryDirectory() as scratch:
        for run in dict.fromkeys(map(run_of, names)):
            if run in pending:
                print(f"checking {run}", file=sys.stderr)
                config = configure(data, run, protocol)
                prepare(config, Path(scratch) / run, protocol.data_dir)


def run_of(name: str) -> str:
    """The run that a method is evaluated from.

    >>> run_of("maml"), run_of("nearest_mean"), run_of("simclr+nearest_mean")
    ('maml', 'pretrained', 'simclr')
    """
    return PRETRAINED if name in pretraining.TRANSFERRED else name.partition("+")[0]


def compare_all(
    folder: Path, names: Sequence[str], data: methods.Data, protocol: Protocol, reference: str
) -> list[dict[str, Any]]:
    """Compares methods, and reports after each so that finished ones can be seen.

    Returns:
      The results of those that did not diverge.
    """
    with program.one_sentence():
        check_runs(folder, names, data, protocol)
    results: list[dict[str, Any]] = []
    diverged: dict[str, str] = {}
    for name in names:
        if name in diverged:
            continue
        try:
            with program.one_sentence():
                results.append(compare(folder, name, data, protocol))
        except Diverged as error:
            # Together with all other methods that use its run.
            alike = [other for other in names if run_of(other) == run_of(name)]
            print(f"{', '.join(alike)}: left out, {error}", file=sys.stderr)
            diverged |= dict.fromkeys(alike, str(error))
        if results:
            report(folder, results, diverged, reference)
    return results


def question(name: str, data: methods.Data, protocol: Protocol) -> dict[str, Any]:
    """What a result answers: the episodes, the run's config, and the spec of the learner."""
    config = configure(data, run_of(name), protocol)
    episodes = {field: getattr(protocol, field) for field in ("ways", "queries", "episodes")}
    asked = {
        "protocol": {**episodes, "shots": list(protocol.shots)},
        "config": config,
        "spec": learner_spec(config, changes=changes_of(name, data, protocol)),
    }
    return json.loads(json.dumps(asked))


def changes_of(name: str, data: methods.Data, protocol: Protocol) -> dict[str, Any]:
    """How the evaluated learner differs from the one in its run's config."""
    run = run_of(name)
    if run == name:
        return {}
    own = learner_spec(configure(data, run, protocol))
    shared = {"ways": protocol.ways, "normalization": own["normalization"]}
    return pretraining.TRANSFERRED[name.rpartition("+")[2]].to_dict() | shared


def recall(
    folder: Path, name: str, data: methods.Data, protocol: Protocol
) -> dict[str, Any] | None:
    """The stored result for the same question, if there is one."""
    try:
        result: dict[str, Any] = json.loads((folder / "results" / f"{name}.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    asked = question(name, data, protocol)
    return result if {field: result.get(field) for field in asked} == asked else None


def compare(folder: Path, name: str, data: methods.Data, protocol: Protocol) -> dict[str, Any]:
    """Trains a method if it is not yet trained, evaluates it, and keeps the result.

    Returns:
      The row of the table, and ``values``, the metric of every episode by shots.

    Raises:
      Diverged: its training diverged.
    """
    result = recall(folder, name, data, protocol)
    if result is not None:
        return result
    run, asked = run_of(name), question(name, data, protocol)
    config, spec = asked["config"], asked["spec"]
    print(f"{name}:", file=sys.stderr)
    prepared = prepare(config, folder / run, protocol.data_dir)
    for note in prepared.notes:
        say(note)
    train(prepared)
    changes = changes_of(name, data, protocol)
    restored, info = workdir.load_trained(folder / run, changes=changes, trust=EVERYTHING)
    source, metrics = prepared.sources["test"], build_metrics(config, EVERYTHING)
    first = next(iter(metrics))
    key, devices = tasks.evaluation_key(config, "test"), jax.devices()
    figures, values = {}, {}
    for shots in protocol.shots:
        counts = {"ways": protocol.ways, "shots": shots, "queries": protocol.queries}
        sample = tasks.episode_sampler(source, "test", counts, spec)
        evaluate = evaluator(
            restored.learner, metrics, sample, protocol.episodes, spread=by_shard_map(devices)
        )
        arguments = replicate((restored.params, restored.state, source.data, key), devices)
        scores = np.asarray(evaluate(*arguments)[first], np.float64)
        outcome = summarize(scores)
        figures[str(shots)] = {
            "mean": outcome.mean,
            "ci95": outcome.ci95,
            "milliseconds_a_task": adaptation_time(
                restored.learner, restored.params, restored.state, sample, source.data, key
            ),
        }
        values[str(shots)] = scores.tolist()
    result = {
        "name": name,
        "run": run,
        "learner": name_of(spec),
        "normalization": spec.get("normalization"),
        "inner_steps": spec.get("steps"),
        "steps": config["steps"],
        "best_step": info["best_step"],
        "train_seconds": info["train_seconds"],
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(restored.params)),
        "training_mib": training_memory(prepared) if config["steps"] else 0.0,
        "figures": figures,
        **asked,
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "values": values,
    }
    (folder / "results").mkdir(exist_ok=True)
    workdir.write_atomically(folder / "results" / f"{name}.json", json.dumps(result))
    return result


def adaptation_time(
    learner: Learner, params: PyTree, state: PyTree, sample: Sampler, data: PyTree, key: Key
) -> float:
    """Milliseconds to adapt to a task and answer its queries, the best of a few compiled calls."""

    @jax.jit
    def solve(params: PyTree, state: PyTree, task: PyTree, key: Key) -> PyTree:
        adapted, _ = learner.adapt(params, state, task.support, key)
        return learner.predict(params, state, adapted, task.query.x, task.query.mask)[0]

    arguments = (params, state, tasks.draw(sample, data, key), key)
    arguments = jax.device_put(arguments, jax.devices()[0])
    jax.block_until_ready(solve(*arguments))
    best = np.inf
    for _ in range(TIMED):
        began = time.perf_counter()
        jax.block_until_ready(solve(*arguments))
        best = min(best, time.perf_counter() - began)
    return 1e3 * best


def training_memory(run: Run) -> float:
    """MiB that the compiled training step holds on one device, as XLA plans it."""
    arguments = (run.train_state, run.sources["train"].data, run.key)
    steps = min(run.config["log_every"], run.config["steps"])
    compiled = run.outer.lower(*arguments, steps).compile()  # type: ignore[attr-defined]
    return float(compiled.memory_analysis().temp_size_in_bytes / MIB)
