"""Judging runs, one after another."""

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta import probes
from jaxmeta.distributed.processes import say
from jaxmeta.runs import workdir
from jaxmeta.runs.config import evaluation_of, name_of
from jaxmeta.runs.measure import VERSIONS
from jaxmeta.runs.spec import suggest
from jaxmeta.types import PyTree

from .. import plots
from ..configs import pretraining
from .features import diagnosed, divided, probed, summarized
from .few_shot import check_tasks, choosing, few_shot_programs, reported, solve
from .runs import examples, load_runs, normalized_by, thinned, variants_of
from .types import Prepared, Protocol, Run

CLEAN = 10_240
"""The most training images that statistics are estimated from."""


def chosen(names: Sequence[str]) -> list[str]:
    """The learners that were asked for; raises ``ValueError`` for none or an unknown one."""
    for name in names:
        if name not in pretraining.TRANSFERRED:
            known = suggest(name, pretraining.TRANSFERRED)
            raise ValueError(f"There is no learner '{name}' of features: {known}.")
    if not names:
        raise ValueError(f"--learners is empty: give some of {', '.join(pretraining.TRANSFERRED)}.")
    return list(dict.fromkeys(names))


def prepare(folders: Sequence[str], protocol: Protocol) -> Prepared:
    """Loads runs and their data; every mistake is found here.

    Raises:
      ValueError: a folder holds no run with a usable model, the runs have different data, or the
        data cannot be divided or do not suffice for the tasks.
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
    """Judges runs, and writes ``probe.json`` and pictures into the folder of each.

    Returns:
      The results; those written leave out the ``values`` of each task.
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


def normalizing(run: Run, prepared: Prepared) -> tuple[dict[str, Any], PyTree]:
    """What normalizes a run's features: how it was chosen, and the model's state."""
    asked_for = prepared.protocol.statistics
    wanted = normalized_by(run, asked_for)
    facts: dict[str, Any] = {"asked": asked_for}
    if wanted is None:
        return {"used": None, **facts}, run.state
    if wanted != asked_for:
        facts["because"] = f"step {run.step} has no averages"
    states = {"averaged": run.state}
    if wanted != "averaged":
        x = probes.all_examples(thinned(run.sources["train"], CLEAN)).x
        states["clean"] = probes.statistics(run.model, run.params["model"], run.state, x)
        facts["clean_images"] = len(jax.tree.leaves(x)[0])
    if wanted != "best":
        return {"used": wanted, **facts}, states[wanted]
    asked = choosing(prepared.runs[0])
    figures = {
        name: summarized(solve(run, state, asked, prepared)) for name, state in states.items()
    }
    used = max(figures, key=lambda name: figures[name]["mean"])
    return {"used": used, **facts, "validation": {**asked._asdict(), **figures}}, states[used]


def judge(run: Run, prepared: Prepared) -> dict[str, Any]:
    """All results of a run with their protocols, and ``values`` of each task; draws pictures."""
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
        "checkpoint": protocol.checkpoint,
        "step": run.step,
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
                name: {str(shots): summarized(values[name, shots]) for shots in protocol.shots}
                for name in protocol.learners
            },
        },
        "backend": jax.default_backend(),
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "versions": {"python": platform.python_version(), **{n: version(n) for n in VERSIONS}},
        "values": values,
    }


def add_differences(result: dict[str, Any], reference: Mapping[str, Any]) -> None:
    """Adds the mean paired difference from the reference over tasks, and its interval."""
    result["few_shot"]["reference"] = reference["workdir"]
    for (name, shots), values in result["values"].items():
        apart = summarized(values - reference["values"][name, shots])
        result["few_shot"]["accuracy"][name][str(shots)]["minus_reference"] = apart
