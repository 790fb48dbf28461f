"""Fine-tuning with a part of the layers copied from a run, for ``experiments.layers``."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmeta.distributed.parallel import by_shard_map, replicate
from jaxmeta.evaluate import evaluator, summarize
from jaxmeta.losses import accuracy
from jaxmeta.runs import tasks, workdir
from jaxmeta.runs.config import evaluation_of
from jaxmeta.types import Batch, Episode, Key, Learner, Metrics, PyTree, Source

from .report import differences
from .seeds import markdown, percent


class Protocol(NamedTuple):
    """What all rows share.

    Attributes:
      shots: support examples per class; each number is evaluated.
      episodes: tasks for each number of shots.
      steps: training steps on a task.
      learning_rates: Adam's; if there are several, validation chooses.
      split: whose classes the tasks are of.
    """

    shots: Sequence[int]
    episodes: int
    steps: int
    learning_rates: Sequence[float]
    split: str


class Run(NamedTuple):
    """A run whose features transfer.

    Attributes:
      folder: its folder.
      config: its config.
      sources: its data.
      parts: the parts of its model, the lowest first.
      step: the step of the checkpoint that is evaluated.
      trust: packages whose functions the config may name.
    """

    folder: Path
    config: Mapping[str, Any]
    sources: Mapping[str, Source]
    parts: Sequence[str]
    step: int
    trust: Sequence[str]


class Row(NamedTuple):
    """One depth.

    Attributes:
      copied: how many parts are copied, from the lowest on.
      frozen: whether these are not trained.
    """

    copied: int
    frozen: bool

    @property
    def name(self) -> str:
        """What the row is called."""
        return f"{self.copied} {'frozen' if self.frozen else 'trained'}"


def rates_of(given: Sequence[str]) -> list[float]:
    """The learning rates; raises ``ValueError`` if one is not a positive number."""
    try:
        rates = [float(each) for each in given]
    except ValueError:
        rates = []
    if not rates or not all(0 < rate < float("inf") for rate in rates):
        raise ValueError(
            f"--learning_rates is '{','.join(given)}': give positive numbers, as in 0.001,0.003."
        )
    return rates


def load(folder: Path, parts: Sequence[str], data_dir: str | None, trust: Sequence[str]) -> Run:
    """The run of a folder.

    Args:
      folder: the run's folder.
      parts: the parts of its model, the lowest first; if there are none, by the numbers in their
        names, as in ``block0``.
      data_dir: the folder of data sets.
      trust: packages whose functions the run's config may name.

    Raises:
      ValueError: these are not the model's parts, their names do not say which is the lowest, or
        the run's evaluation is given no model.
    """
    config = workdir.read_config(folder)
    ways = evaluation_of(config)["ways"]
    spec = {"make": "jaxmeta.learners.nearest_mean", "ways": ways, "normalization": "transductive"}
    try:
        restored, info = workdir.load_trained(folder, None, spec, trust)
        named = sorted(restored.params["model"])
    except KeyError as error:
        raise ValueError(
            f"The first evaluation of '{folder}' is given no model (there is no {error} in its "
            "parameters or its state): give a run whose evaluations transfer features."
        ) from error
    if parts and sorted(parts) != named:
        raise ValueError(
            f"--parts is '{','.join(parts)}' and the model has the parts {', '.join(named)}: give "
            "all of them once, the lowest first."
        )
    ordered = list(parts) or numbered(named)
    sources = tasks.load_sources(config, data_dir, trust)
    return Run(folder, config, sources, ordered, info["step"], trust)


def numbered(names: Sequence[str]) -> list[str]:
    """Names such as ``block0`` in the order of their numbers.

    Raises:
      ValueError: one has no number, or they differ in more than that.

    >>> numbered(["block0", "block10", "block2"])
    ['block0', 'block2', 'block10']
    """
    found = [re.fullmatch(r"(\D*)(\d+)", name) for name in names]
    if None in found or len({each[1] for each in found if each}) != 1:
        raise ValueError(
            f"The parts of the model are {', '.join(names)}, which do not say their order: give "
            "--parts, the lowest first."
        )
    return sorted(names, key=lambda name: int(re.sub(r"\D", "", name)))


def rows_of(parts: Sequence[str]) -> list[Row]:
    """All depths; with no part copied, none can be frozen, and with all, that is listed first."""
    every = range(len(parts), 0, -1)
    return [Row(count, frozen) for count in every for frozen in (True, False)] + [Row(0, False)]


def copying(learner: Learner, parts: Sequence[str]) -> Learner:
    """The learner, whose model starts at random in every task, but for the parts named.

    The learner has to train all other parts, as ``predict`` has the model as it was given.
    """

    def adapt(params: PyTree, state: PyTree, support: Batch, key: Key) -> tuple[PyTree, Metrics]:
        fresh_key, key = jax.random.split(key)
        fresh = learner.init(fresh_key, Episode(support, support))[0]["model"]
        kept = {name: params["model"][name] for name in parts}
        return learner.adapt({**params, "model": {**fresh, **kept}}, state, support, key)

    return learner._replace(adapt=adapt, path=None)


def spec_of(run: Run, row: Row, steps: int, learning_rate: float) -> dict[str, Any]:
    """The spec of the learner of a row."""
    return {
        "make": "jaxmeta.learners.fine_tuning",
        "ways": evaluation_of(run.config)["ways"],
        "trained": list(run.parts[row.copied :] if row.frozen else run.parts),
        "steps": steps,
        "learning_rate": learning_rate,
        # Random layers have no running averages.
        "normalization": "transductive",
    }


def accuracies(
    run: Run, row: Row, spec: Mapping[str, Any], shots: int, split: str, episodes: int
) -> list[float]:
    """The accuracy on each task."""
    restored = workdir.restore(run.folder, trust=run.trust, **spec)
    learner = copying(restored.learner, run.parts[: row.copied])
    counts = {"ways": spec["ways"], "shots": shots, "queries": evaluation_of(run.config)["queries"]}
    sample = tasks.episode_sampler(run.sources[split], split, counts, spec)
    devices, chunk = jax.devices(), run.config["chunk"]
    metrics, over = {"accuracy": accuracy}, by_shard_map(devices)
    measure = evaluator(learner, metrics, sample, episodes, chunk, over)
    key = tasks.evaluation_key(run.config, split)
    given = (restored.params, restored.state, run.sources[split].data, key)
    values = measure(*replicate(given, devices))["accuracy"]
    return np.asarray(values, np.float64).tolist()


def evaluated(run: Run, protocol: Protocol) -> Iterator[list[dict[str, Any]]]:
    """The results of the rows, after each.

    Raises:
      ValueError: learning rates would be chosen on the tasks that are reported.
    """
    if protocol.split == "valid" and len(protocol.learning_rates) > 1:
        raise ValueError(
            "--split=valid is what learning rates are chosen on: give one of --learning_rates, or "
            "leave --split out."
        )
    results: list[dict[str, Any]] = []
    for row in rows_of(run.parts):
        results.append(recalled(run, row, protocol) or evaluate(run, row, protocol))
        yield results


def question(run: Run, row: Row, protocol: Protocol) -> dict[str, Any]:
    """What a result answers."""
    about = {"parts": run.parts, "step": run.step, "protocol": protocol._asdict()}
    return {"name": row.name, **row._asdict(), **about}


def path_of(run: Run, row: Row) -> Path:
    """Where the result of a row is kept."""
    return run.folder / "layers" / f"{row.name.replace(' ', '_')}.json"


def recalled(run: Run, row: Row, protocol: Protocol) -> dict[str, Any] | None:
    """The stored result, if it answers the same question."""
    try:
        result: dict[str, Any] = json.loads(path_of(run, row).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    asked = question(run, row, protocol)
    return result if {field: result.get(field) for field in asked} == asked else None


def evaluate(run: Run, row: Row, protocol: Protocol) -> dict[str, Any]:
    """Chooses the learning rates of a row, measures it and keeps the result."""
    rates, figures, values = {}, {}, {}
    for shots in protocol.shots:
        specs = [
            spec_of(run, row, protocol.steps, learning_rate)
            for learning_rate in protocol.learning_rates
        ]
        if len(specs) > 1:
            count = run.config["evaluation"]["validation_episodes"]
            scores = [np.mean(accuracies(run, row, spec, shots, "valid", count)) for spec in specs]
            specs = [specs[int(np.argmax(scores))]]
        own = accuracies(run, row, specs[0], shots, protocol.split, protocol.episodes)
        outcome = summarize(np.asarray(own))
        rates[str(shots)] = specs[0]["learning_rate"]
        figures[str(shots)] = {"mean": outcome.mean, "ci95": outcome.ci95}
        values[str(shots)] = own
    answer = {"learning_rates": rates, "figures": figures, "values": values}
    result = {**question(run, row, protocol), **answer}
    path_of(run, row).parent.mkdir(exist_ok=True)
    workdir.write_atomically(path_of(run, row), json.dumps(result))
    return result


def write(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes ``layers.json`` and ``layers.md``."""
    apart = differences(rows, rows[0]["name"])
    found = {"rows": [dict(row) for row in rows], "differences": apart}
    workdir.write_atomically(folder / "layers.json", json.dumps(found, indent=2) + "\n")
    workdir.write_atomically(folder / "layers.md", table(rows, apart))


def table(rows: Sequence[Mapping[str, Any]], apart: Mapping[str, Any]) -> str:
    """The table in Markdown; differences are from the first row, all parts copied and frozen."""
    shots = [str(count) for count in rows[0]["protocol"]["shots"]]
    tuned = len(rows[0]["protocol"]["learning_rates"]) > 1
    head = ["copied", "these are"]
    for count in shots:
        head += [f"{count}-shot, %", "minus all frozen", *(["rate"] if tuned else [])]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        names = ", ".join(row["parts"][: row["copied"]])
        cells = [names or "none", "" if not names else "frozen" if row["frozen"] else "trained"]
        for count in shots:
            difference = apart.get(row["name"], {}).get(count)
            cells += [percent(row["figures"][count]), percent(difference, "+")]
            cells += [f"{row['learning_rates'][count]:g}"] if tuned else []
        lines.append(cells)
    return markdown(lines)
