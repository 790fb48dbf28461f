"""Sets methods against each other on the same episodes: one table and one plot.

  python -m experiments.compare --data=omniglot [--learners=all] [--shots=1,5] [--ways=5] \
      [--queries=15] [--episodes=600] [--steps=2000] [--seed=0] [--reference=prototypical] \
      [--workdir=runs/compare_omniglot] [--data_dir=DATA]

``--data`` names a module of ``experiments/configs``, or one of your own by its dotted name, with a
``DATA`` as in ``omniglot.py``. Every method has a run of its own in the folder, trained as
``experiments.train`` would; those that transfer features share the run ``pretrained``. What is done
is kept: the same command goes on where it stopped, and with other methods takes over what is there.

Writes ``comparison.json``, ``comparison.md`` and ``comparison.png`` of the methods that it was
asked for.
"""

import importlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments import common, plots, train
from experiments.configs import methods
from jaxmeta import workdir
from jaxmeta.build import build, near
from jaxmeta.evaluate import evaluator, summarise
from jaxmeta.parallel import replicate
from jaxmeta.types import Key, Learner, PyTree, Sampler

DATA = flags.DEFINE_string("data", None, "A module of experiments/configs, as in omniglot.")
LEARNERS = flags.DEFINE_list("learners", ["all"], "Which methods, or all.")
SHOTS = flags.DEFINE_list("shots", ["1", "5"], "Support examples a class; each is evaluated.")
WAYS = flags.DEFINE_integer("ways", 5, "Classes of an episode.", lower_bound=2)
QUERIES = flags.DEFINE_integer("queries", 15, "Query examples a class.", lower_bound=1)
EPISODES = flags.DEFINE_integer("episodes", 600, "Test episodes for each.", lower_bound=2)
STEPS = flags.DEFINE_integer(
    "steps", None, "Outer steps of every run, if not its config's own.", lower_bound=1
)
SEED = flags.DEFINE_integer("seed", 0, "Of the training.")
REFERENCE = flags.DEFINE_string(
    "reference", None, "What others are compared with; else prototypical, or the first."
)

PRETRAINED = "pretrained"
TIMED = 5
MIB = 2**20


def chosen(names: Sequence[str]) -> list[str]:
    """The methods that were asked for; raises ``ValueError`` naming one that there is not."""
    every = [name for name in methods.TRAINED if name != PRETRAINED] + list(methods.TRANSFERRED)
    for name in names:
        if name not in (*every, "all"):
            raise ValueError(f"There is no method '{name}': {near(name, every)}.")
    if not names:
        raise ValueError(f"--learners is empty: give all, or some of {', '.join(every)}.")
    return every if "all" in names else list(dict.fromkeys(names))


def chosen_shots(values: Sequence[str]) -> list[int]:
    """The numbers of shots, in order; raises ``ValueError`` when they are not such."""
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
    """What others are compared with; raises ``ValueError`` when it is none of the methods."""
    if name is None:
        return "prototypical" if "prototypical" in names else names[0]
    if name not in names:
        raise ValueError(f"--reference is '{name}', which is not compared: add it to --learners.")
    return name


def load_data(name: str) -> methods.Data:
    """The data set of a module's name."""
    dotted = name if "." in name else f"experiments.configs.{name}"
    try:
        data: methods.Data = importlib.import_module(dotted).DATA
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(
            f"--data is '{name}', but no DATA can be had from {dotted} ({error}): give omniglot, "
            "cifar_fs, glyphs, or the dotted name of a module of your own."
        ) from error
    return data


def configure(data: methods.Data, run: str) -> dict[str, Any]:
    """The config of a run, as it is trained here."""
    config = methods.configure(data, run)
    config.seed = SEED.value
    config.ways = WAYS.value
    if STEPS.value is not None and config.steps > 0:
        config.steps = STEPS.value
        config.evaluation.every = max(STEPS.value // 2 // config.log_every, 1) * config.log_every
    return common.plain(config)


def check_episodes(data: methods.Data, shots: Sequence[int]) -> None:
    """Raises ``ValueError`` before anything is trained when the test classes are too small."""
    source = common.load_sources({"data": data.spec.to_dict()}, common.DATA_DIR.value)["test"]
    for each in shots:
        protocol = {"ways": WAYS.value, "shots": each, "queries": QUERIES.value}
        common.sampler(source, "test", protocol, {})


def compare(
    folder: Path, name: str, data: methods.Data, every_shots: Sequence[int]
) -> dict[str, Any]:
    """Trains a method if that is still to be done, evaluates it, and keeps the result.

    Returns:
      The row of the table, and ``values``, the metric of every episode by shots.

    Raises:
      Diverged: its training did.
    """
    run = name if name in methods.TRAINED else PRETRAINED
    counts = {"ways": WAYS.value, "queries": QUERIES.value}
    protocol = {**counts, "episodes": EPISODES.value, "shots": list(every_shots)}
    kept = folder / "results" / f"{name}.json"
    config = configure(data, run)
    changes = methods.TRANSFERRED[name].to_dict() if run != name else {}
    if "ways" in changes:
        changes["ways"] = WAYS.value
    spec = workdir.evaluated_spec(config, changes)
    asked = json.loads(json.dumps({"protocol": protocol, "config": config, "spec": spec}))
    if kept.exists():
        result: dict[str, Any] = json.loads(kept.read_text())
        if {field: result.get(field) for field in asked} == asked:
            return result
    print(f"{name}:", file=sys.stderr)
    prepared = train.prepare(config, folder / run, common.DATA_DIR.value)
    train.train(prepared)
    restored, info = workdir.load_best(folder / run, changes)
    source, metric = prepared.sources["test"], build(config["metric"])
    key, devices = common.evaluation_key(config, "test"), jax.devices()
    figures, values = {}, {}
    for shots in every_shots:
        sample = common.sampler(source, "test", {**counts, "shots": shots}, spec)
        judge = evaluator(restored.learner, metric, sample, EPISODES.value, None, devices)
        arguments = replicate((restored.params, restored.state, source.data, key), devices)
        scores = np.asarray(judge(*arguments), np.float64)
        outcome = summarise(scores)
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
        "learner": common.name_of(spec),
        "normalisation": spec.get("normalisation"),
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
    kept.parent.mkdir(exist_ok=True)
    workdir.write_atomically(kept, json.dumps(result))
    return result


def adaptation_time(
    learner: Learner, params: PyTree, state: PyTree, sample: Sampler, data: PyTree, key: Key
) -> float:
    """Milliseconds to adapt to one task and answer its queries, compiled, the best of a few."""

    @jax.jit
    def solve(params: PyTree, state: PyTree, task: PyTree, key: Key) -> PyTree:
        adapted, _ = learner.adapt(params, state, task.support, key)
        return learner.predict(params, state, adapted, task.query.x, task.query.mask)[0]

    arguments = (params, state, jax.jit(sample)(data, key), key)
    arguments = jax.device_put(arguments, jax.devices()[0])
    jax.block_until_ready(solve(*arguments))
    best = np.inf
    for _ in range(TIMED):
        began = time.perf_counter()
        jax.block_until_ready(solve(*arguments))
        best = min(best, time.perf_counter() - began)
    return 1e3 * best


def training_memory(run: train.Run) -> float:
    """MiB that the compiled training step holds on one device, as XLA plans it."""
    arguments = (run.train_state, run.sources["train"].data, run.key)
    steps = min(run.config["log_every"], run.config["steps"])
    compiled = run.update.lower(*arguments, steps).compile()  # type: ignore[attr-defined]
    return float(compiled.memory_analysis().temp_size_in_bytes / MIB)


def differences(results: Sequence[Mapping[str, Any]], reference: str) -> dict[str, dict[str, Any]]:
    """By method and shots, the mean of ours minus the reference's on each episode, and interval."""
    base = next((result["values"] for result in results if result["name"] == reference), None)
    if base is None:
        return {}
    return {
        result["name"]: {
            shots: summarise(np.asarray(values) - np.asarray(base[shots]))._asdict()
            for shots, values in result["values"].items()
        }
        for result in results
        if result["name"] != reference
    }


def table(results: Sequence[Mapping[str, Any]], apart: Mapping[str, Any], reference: str) -> str:
    """The table in Markdown, in percent."""
    shots = [str(value) for value in results[0]["protocol"]["shots"]]
    head = ["method"]
    for k in shots:
        head += [f"{k}-shot, %", f"minus `{reference}`"]
    head += ["outer steps", "training, s", "training, MiB", f"a task, ms ({shots[0]}-shot)"]
    head += ["parameters"]
    rows = []
    for result in results:
        cells = [f"`{result['name']}`"]
        for k in shots:
            figure = result["figures"][k]
            cells.append(f"{100 * figure['mean']:.1f} ± {100 * figure['ci95']:.1f}")
            paired = apart.get(result["name"], {}).get(k)
            cells.append(
                f"{100 * paired['mean']:+.1f} ± {100 * paired['ci95']:.1f}" if paired else ""
            )
        cells += [
            f"{result['steps']:,}",
            f"{result['train_seconds']:,.0f}",
            f"{result['training_mib']:,.0f}",
            f"{result['figures'][shots[0]]['milliseconds_a_task']:.1f}",
            f"{result['parameters']:,}",
        ]
        rows.append(cells)
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def main(arguments: list[str]) -> None:
    """Compares what is asked for."""
    with common.one_sentence():
        if DATA.value is None:
            raise ValueError("--data is needed, as in --data=glyphs.")
        names, data, shots = (
            chosen(LEARNERS.value),
            load_data(DATA.value),
            chosen_shots(SHOTS.value),
        )
        reference = chosen_reference(names, REFERENCE.value)
        folder = Path(common.WORKDIR.value or f"runs/compare_{DATA.value}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"'{folder}' cannot be made a folder ({error.strerror}): give another workdir."
            ) from error
        check_episodes(data, shots)
        # What is compiled to be trained need not be again to be measured, nor after a stop.
        jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    results, diverged = [], {}
    for name in names:
        try:
            with common.one_sentence():
                results.append(compare(folder, name, data, shots))
        except train.Diverged as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            diverged[name] = str(error)
            continue
        # After every method, so that what is done can be seen.
        report(folder, results, diverged, reference)
    if not results:
        sys.exit("Error: every method diverged: see above.")
    print((folder / "comparison.md").read_text())


def report(
    folder: Path,
    results: Sequence[Mapping[str, Any]],
    diverged: Mapping[str, str],
    reference: str,
) -> None:
    """Writes the table, its figures, and the plot."""
    apart = differences(results, reference)
    without = [
        {field: value for field, value in result.items() if field != "values"}
        | {"minus_reference": apart.get(result["name"])}
        for result in results
    ]
    document = {"reference": reference, "methods": without, "diverged": diverged}
    workdir.write_atomically(folder / "comparison.json", json.dumps(document, indent=2) + "\n")
    left_out = "".join(f"\n`{name}` diverged: {text}\n" for name, text in diverged.items())
    text = table(results, apart, reference) + left_out
    workdir.write_atomically(folder / "comparison.md", text)
    plots.comparison(folder, results)


if __name__ == "__main__":
    common.run(main)
