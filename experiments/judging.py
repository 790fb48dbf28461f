"""Judging the features of runs, for ``experiments.probe``."""

import functools
import json
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta import diagnostics, probes
from jaxmeta.data.choices import ClassData, class_data
from jaxmeta.distributed.parallel import by_shard_map, replicate
from jaxmeta.distributed.processes import say
from jaxmeta.evaluate import evaluator, summarize
from jaxmeta.losses import accuracy
from jaxmeta.runs import tasks, workdir
from jaxmeta.runs.config import build_model, evaluation_of, made, name_of
from jaxmeta.runs.measure import VERSIONS
from jaxmeta.runs.spec import suggest
from jaxmeta.types import Array, Batch, Key, Learner, Metrics, Model, PyTree, Source

from . import plots
from .configs import methods

CHOOSER = ("nearest_mean", 5)
"""The learner and the shots by which the better statistics are chosen."""
CLEAN = 10_240
"""Training images that statistics are estimated from, at most."""
SHARE = 0.2
"""Of a class: the part that penalties are chosen on, and the part that probes are judged on."""
FITS = {"ridge": probes.ridge_probe, "logistic": probes.logistic_probe}
PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
TEMPERATURE = 0.07


class Asked(NamedTuple):
    """Few-shot tasks, and what is to solve them."""

    learner: str
    shots: int
    split: str
    episodes: int


Programs = Callable[[Model, Asked], Callable[[PyTree, PyTree, PyTree, Key], Metrics]]
"""Compiles, for the features of a model, ``(params, state, data, key) -> values of each task``."""


class Protocol(NamedTuple):
    """What all runs are judged by.

    Attributes:
      split: whose images and tasks.
      learners: what solves the tasks, by name.
      shots: each number is evaluated.
      episodes: how many tasks for each.
      statistics: what normalizes the features: ``"averaged"``, ``"clean"``, or the ``"best"``.
      neighbors: how many vote.
      seed: of the division into parts.
      data_dir: where data lie.
      trust: packages whose functions may be named.
    """

    split: str
    learners: Sequence[str]
    shots: Sequence[int]
    episodes: int
    statistics: str
    neighbors: int
    seed: int
    data_dir: str | None
    trust: tuple[str, ...]


class Run(NamedTuple):
    """A trained model.

    Attributes:
      folder: of the run, as it was given.
      config: its config.
      sources: its data.
      model: whose outputs are the features.
      params: the model's, under ``"model"``, where learners look for them.
      state: the averages of its statistics.
      best_step: the step of the checkpoint.
    """

    folder: str
    config: Mapping[str, Any]
    sources: Mapping[str, Source]
    model: Model
    params: PyTree
    state: PyTree
    best_step: int


class Parts(NamedTuple):
    """Rows of the images that probes are fitted to, chosen on, and judged on."""

    fit: np.ndarray
    held_out: np.ndarray
    judged: np.ndarray


class Prepared(NamedTuple):
    """All that is to be judged, checked, before anything is compiled.

    Attributes:
      protocol: by what.
      runs: the runs; the first is the reference, and its config has the ways, the queries and the
        seed of the tasks.
      batch: all examples of the split.
      parts: how they are divided.
      programs: solve few-shot tasks.
    """

    protocol: Protocol
    runs: Sequence[Run]
    batch: Batch
    parts: Parts
    programs: Programs


def chosen(names: Sequence[str]) -> list[str]:
    """The learners that were asked for; raises ``ValueError`` naming one that there is not."""
    for name in names:
        if name not in methods.TRANSFERRED:
            raise ValueError(
                f"There is no learner '{name}' of features: {suggest(name, methods.TRANSFERRED)}."
            )
    return list(dict.fromkeys(names))


def prepare(folders: Sequence[str], protocol: Protocol) -> Prepared:
    """Loads runs and their data; every mistake is found here.

    Raises:
      ValueError: a folder holds no run whose model can be had, the runs are of different data, or
        these cannot be divided or fill no such tasks.
    """
    if not folders:
        raise ValueError("--workdirs is needed: the folders of runs, as in runs/simclr,runs/byol.")
    if jax.process_count() > 1:
        raise ValueError(
            f"{jax.process_count()} processes joined, and features are judged by one: start one."
        )
    runs = load_runs(folders, protocol)
    batch = examples(runs[0].sources[protocol.split])
    parts = divided(np.asarray(batch.y), protocol.seed)
    if protocol.neighbors > parts.fit.size:
        raise ValueError(
            f"--neighbors is {protocol.neighbors} and probes are fitted to {parts.fit.size} "
            "images: give fewer."
        )
    prepared = Prepared(protocol, runs, batch, parts, few_shot_programs(runs[0], protocol))
    for run in runs:
        check_tasks(run, prepared)
    return prepared


def judge_all(prepared: Prepared) -> list[dict[str, Any]]:
    """Judges runs, writes ``probe.json`` and draws pictures into the folder of each.

    Returns:
      The results; those written have no ``values`` of each task.
    """
    results: list[dict[str, Any]] = []
    for run in prepared.runs:
        say(f"Judging '{run.folder}'.")
        results.append(judge(run, prepared))
        add_differences(results[-1], results[0])
        kept = {field: value for field, value in results[-1].items() if field != "values"}
        text = json.dumps(kept, indent=2) + "\n"
        workdir.write_atomically(Path(run.folder) / "probe.json", text)
    return results


def load_runs(folders: Sequence[str], protocol: Protocol) -> list[Run]:
    """The runs, those of one model and of one data set sharing them."""
    configs = [workdir.read_config(Path(folder)) for folder in folders]
    split, trust = protocol.split, protocol.trust

    @functools.cache
    def sources_of(spec: str) -> dict[str, Source]:
        return tasks.load_sources({"data": json.loads(spec)}, protocol.data_dir, trust)

    @functools.cache
    def model_of(spec: str, mixed_precision: bool) -> Model:
        config = {"model": json.loads(spec), "mixed_precision": mixed_precision}
        return build_model(config, trust)

    loaded = [sources_of(json.dumps(config["data"])) for config in configs]
    for folder, sources in zip(folders, loaded, strict=True):
        jax.eval_shape(lambda source=sources[split]: probes.all_examples(source))
        if not alike(sources[split].data, loaded[0][split].data):
            raise ValueError(
                f"'{folder}' has another {split} split than '{folders[0]}': judge runs of the same "
                "data together, and others by a command of their own."
            )
    models = [model_of(json.dumps(each["model"]), each["mixed_precision"]) for each in configs]
    return [load_run(*given, trust) for given in zip(folders, configs, loaded, models, strict=True)]


def alike(data: PyTree, other: PyTree) -> bool:
    """Whether two sources hold the same examples."""
    if repr(jax.tree.structure(data)) != repr(jax.tree.structure(other)):
        return False
    return all(map(np.array_equal, *map(jax.tree.leaves, (data, other))))


def load_run(
    folder: str,
    config: Mapping[str, Any],
    sources: Mapping[str, Source],
    model: Model,
    trust: Sequence[str],
) -> Run:
    """The best checkpoint of a run, as its first evaluation is given it."""
    spec = transferring("nearest_mean", evaluation_of(config)["ways"])
    try:
        restored, info = workdir.load_best(Path(folder), changes=spec, trust=trust)
    except KeyError as error:
        raise ValueError(
            f"The first evaluation of '{folder}' is given no model (there is no {error} in its "
            "parameters or its state): judge a run whose evaluations transfer features."
        ) from error
    params = {"model": restored.params["model"]}
    return Run(folder, config, sources, model, params, restored.state, info["best_step"])


def transferring(name: str, ways: int) -> dict[str, Any]:
    """The spec of a learner whose features the statistics in its state normalize."""
    shared = {"ways": ways, "normalization": "running"}
    return methods.TRANSFERRED[name].to_dict() | shared


def examples(source: Source) -> Batch:
    """All examples of a source; of several variants, which are other classes, the first.

    Raises:
      ValueError: they are not in memory, or the source decodes them in a way of its own.
    """
    batch, variants = probes.all_examples(source), variants_of(source)
    if source.batches is None:
        return batch
    # Any example that it draws of a first variant should be one of these.
    drawn = tasks.draw(source.batches(64), source.data, jax.random.key(0))
    labels, y = np.asarray(drawn.y), np.asarray(batch.y)
    ours, theirs = rows(batch.x), rows(drawn.x)
    for label, row in zip(labels, theirs, strict=True):
        own = ours[y == label // variants]
        if label % variants == 0 and not np.isclose(own, row, atol=1e-5).all(axis=1).any():
            raise ValueError(
                "The data decode their examples in a way of their own, which features of all of "
                "them cannot follow: give data whose examples are stored as the model takes them."
            )
    return batch


def variants_of(source: Source) -> int:
    """How many classes are made of each one, as by quarter turns."""
    return 1 if source.classes is None else source.classes // source.data.counts.size


def rows(x: PyTree) -> np.ndarray:
    """Inputs as one row of numbers each."""
    leaves = [np.asarray(leaf, np.float32) for leaf in jax.tree.leaves(x)]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


def thinned(source: Source, most: int) -> Source:
    """A source of so many of its examples, at most, evenly spaced, for :func:`examples` only."""
    data = source.data
    if not isinstance(data, ClassData) or not jax.tree.leaves(data.examples):
        return source
    counts = np.asarray(data.counts)
    kept = np.unique(np.linspace(0, counts.sum() - 1, most).round().astype(np.int64))
    classes = np.repeat(np.arange(counts.size), counts)[kept]
    some = jax.tree.map(lambda leaf: leaf[kept], data.examples)
    return source._replace(data=class_data(some, np.bincount(classes, minlength=counts.size)))


def divided(y: np.ndarray, seed: int) -> Parts:
    """Divides the rows of each class at random.

    Raises:
      ValueError: a class is too small.
    """
    random = np.random.RandomState(seed)
    pieces = []
    for label in np.unique(y):
        own = random.permutation(np.flatnonzero(y == label))
        if own.size < len(Parts._fields):
            raise ValueError(
                f"A class of the split has {own.size} images, which cannot be divided into "
                f"{len(Parts._fields)} parts: give data with more of each class."
            )
        few = max(round(SHARE * own.size), 1)
        pieces.append(np.split(own, [own.size - 2 * few, own.size - few]))
    return Parts(*(np.sort(np.concatenate(part)) for part in zip(*pieces, strict=True)))


def few_shot_programs(reference: Run, protocol: Protocol) -> Programs:
    """The programs that solve few-shot tasks, the same ones for every model."""
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
    statistics, asked = prepared.protocol.statistics, reported(prepared.protocol)
    if jax.tree.leaves(run.state) and statistics != "averaged":
        jax.eval_shape(lambda: probes.all_examples(run.sources["train"]))
    if jax.tree.leaves(run.state) and statistics == "best":
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
    """What a program is given; its tasks follow from the data and the key, which runs share."""
    shared = prepared.runs[0]
    key = tasks.evaluation_key(shared.config, asked.split)
    return run.params, state, shared.sources[asked.split].data, key


def solve(run: Run, state: PyTree, asked: Asked, prepared: Prepared) -> np.ndarray:
    """The accuracy on each of some few-shot tasks."""
    given = replicate(arguments(run, state, asked, prepared), jax.devices())
    return np.asarray(prepared.programs(run.model, asked)(*given)["accuracy"], np.float64)


def normalizing(run: Run, prepared: Prepared) -> tuple[dict[str, Any], PyTree]:
    """What normalizes a run's features: how it was chosen, and the state of the model."""
    wanted = prepared.protocol.statistics
    facts: dict[str, Any] = {"asked": wanted}
    if not jax.tree.leaves(run.state):
        return {"used": None, **facts}, run.state
    states = {"averaged": run.state}
    if wanted != "averaged":
        x = probes.all_examples(thinned(run.sources["train"], CLEAN)).x
        states["clean"] = probes.statistics(run.model, run.params["model"], run.state, x)
        facts["clean_images"] = len(jax.tree.leaves(x)[0])
    if wanted != "best":
        return {"used": wanted, **facts}, states[wanted]
    asked = choosing(prepared.runs[0])
    figures = {name: _figures(solve(run, state, asked, prepared)) for name, state in states.items()}
    used = max(figures, key=lambda name: figures[name]["mean"])
    return {"used": used, **facts, "validation": {**asked._asdict(), **figures}}, states[used]


def judge(run: Run, prepared: Prepared) -> dict[str, Any]:
    """All figures of a run, each with its protocol, and ``values`` of each task; draws pictures."""
    protocol, parts, x = prepared.protocol, prepared.parts, prepared.batch.x
    statistics, state = normalizing(run, prepared)
    z = np.asarray(probes.features(run.model, run.params["model"], state, x), np.float32)
    z, y = z.reshape(len(z), -1), np.asarray(prepared.batch.y)
    values = {
        (asked.learner, asked.shots): solve(run, state, asked, prepared)
        for asked in reported(protocol)
    }
    plots.features(Path(run.folder), z, y, x, protocol.seed)
    plots.views(Path(run.folder), run.sources["train"], protocol.trust)
    config, variants = run.config, variants_of(run.sources[protocol.split])
    shared = prepared.runs[0].config
    evaluation = evaluation_of(shared)
    return {
        "workdir": run.folder,
        "data": {**config["data"], "make": name_of(config["data"])},
        "split": protocol.split,
        "steps": config["steps"],
        "best_step": run.best_step,
        "mixed_precision": config["mixed_precision"],
        "statistics": statistics,
        "features": {"images": z.shape[0], "dimensions": z.shape[1], "first_variant_of": variants},
        "parts": {
            "seed": protocol.seed,
            "classes": np.unique(y).size,
            **{name: rows.size for name, rows in parts._asdict().items()},
        },
        "probes": probed(z, y, parts, protocol.neighbors),
        "diagnostics": diagnosed(jnp.asarray(z)),
        "few_shot": {
            "ways": evaluation["ways"],
            "queries": evaluation["queries"],
            "episodes": protocol.episodes,
            "seed": shared["evaluation"]["seed"],
            "accuracy": {
                name: {str(shots): _figures(values[name, shots]) for shots in protocol.shots}
                for name in protocol.learners
            },
        },
        "backend": jax.default_backend(),
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "versions": {"python": platform.python_version(), **{n: version(n) for n in VERSIONS}},
        "values": values,
    }


def probed(z: np.ndarray, y: np.ndarray, parts: Parts, neighbors: int) -> dict[str, Any]:
    """The accuracy of simple classifiers of features ``[n, d]``, over the judged images."""
    fit, held_out, (queries, answers) = ((z[rows], y[rows]) for rows in parts)
    classes = int(y.max()) + 1
    found: dict[str, Any] = {}
    for name, probe in FITS.items():
        penalty = probes.best_penalty(probe, fit, held_out, classes, PENALTIES)
        labels = np.argmax(probe(*fit, classes, penalty)(queries), axis=1)
        found[name] = {
            "accuracy": _figures(labels == answers),
            "penalty": penalty,
            "penalties": list(PENALTIES),
        }
    labels = np.asarray(
        probes.nearest_neighbors(*fit, queries, classes, neighbors, temperature=TEMPERATURE)
    )
    found["nearest_neighbors"] = {
        "accuracy": _figures(labels == answers),
        "neighbors": neighbors,
        "temperature": TEMPERATURE,
    }
    return found


def diagnosed(z: Array) -> dict[str, Any]:
    """What features look like without labels."""
    # Few examples estimate the last ranks worst.
    last = max(min(z.shape) // 2, 2)
    alpha = diagnostics.alpha_req(z, 1, last).item() if min(z.shape) > 1 else math.inf
    return {
        "rankme": diagnostics.rankme(z).item(),
        "alpha_req": alpha if math.isfinite(alpha) else None,
        "alpha_req_ranks": [1, last],
        "spread": diagnostics.spread(z).item(),
    }


def _figures(values: np.ndarray) -> dict[str, float]:
    """Their mean and half the width of its 95% interval."""
    score = summarize(values)
    return {"mean": score.mean, "ci95": score.ci95}


def add_differences(result: dict[str, Any], reference: Mapping[str, Any]) -> None:
    """Adds the mean of ours minus the reference's on each task, and its interval."""
    result["few_shot"]["reference"] = reference["workdir"]
    for (name, shots), values in result["values"].items():
        apart = _figures(values - reference["values"][name, shots])
        result["few_shot"]["accuracy"][name][str(shots)]["minus_reference"] = apart


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """The table in Markdown, accuracies in percent."""
    reference, columns = results[0], list(results[0]["values"])
    head = ["run", "step", "statistics", "ridge, %", "logistic, %"]
    head += [f"{reference['probes']['nearest_neighbors']['neighbors']} neighbors, %"]
    head += ["RankMe", "alpha-ReQ", "spread"]
    for name, shots in columns:
        head += [f"`{name}`, {shots}-shot, %", f"minus `{reference['workdir']}`"]
    lines = [head, ["---"] * len(head)]
    for result in results:
        seen, alpha = result["diagnostics"], result["diagnostics"]["alpha_req"]
        cells = [f"`{result['workdir']}`", f"{result['best_step']:,}"]
        cells.append(_statistics(result["statistics"]))
        cells += [_percent(probe["accuracy"]) for probe in result["probes"].values()]
        cells += [f"{seen['rankme']:.1f}", "" if alpha is None else f"{alpha:.2f}"]
        cells.append(f"{seen['spread']:.2f}")
        for name, shots in columns:
            figure = result["few_shot"]["accuracy"][name][str(shots)]
            apart = _percent(figure["minus_reference"], "+") if result is not reference else ""
            cells += [_percent(figure), apart]
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _percent(figure: Mapping[str, float], sign: str = "") -> str:
    return f"{100 * figure['mean']:{sign}.1f} ± {100 * figure['ci95']:.1f}"


def _statistics(facts: Mapping[str, Any]) -> str:
    """Which were used and, where that was chosen, by which validation."""
    if "validation" not in facts:
        return facts["used"] or "none"
    means = {name: facts["validation"][name]["mean"] for name in ("averaged", "clean")}
    seen = ", ".join(f"{name} {100 * mean:.1f}" for name, mean in means.items())
    return f"{facts['used']} (validation: {seen})"
