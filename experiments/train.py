"""Meta-trains a learner and evaluates it.

  python -m experiments.train --config=experiments/configs/NAME.py --workdir=DIR \
      [--data_dir=DIR] [--config.field=value] [--spread=pmap | --parameter_shards=2] \
      [--distributed | --coordinator=HOST:PORT --processes=N --process=I]

The same command resumes a run that was stopped, from its last checkpoint, and takes exactly the
steps that an undisturbed run would have taken; on other devices too. Started on several machines,
it shares the tasks of each step among them.
"""

import json
import math
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from absl import flags

from experiments import common, plots, program
from experiments.journal import Journal
from experiments.measure import measure
from jaxmeta.data import StreamedSampler, stream
from jaxmeta.distributed.parallel import by_pmap, by_shard_map, layout, places, put, replicate
from jaxmeta.distributed.processes import barrier, from_primary, is_primary, largest
from jaxmeta.evaluate import Evaluation, evaluator, summarize
from jaxmeta.gradients import mean_gradient
from jaxmeta.objectives import augmented
from jaxmeta.runs import checkpoint, workdir
from jaxmeta.runs.spec import EVERYTHING, build
from jaxmeta.train import TrainState, Update, first_non_finite, outer_loop, start, streamed_loop
from jaxmeta.types import Key, Source

CONFIG = program.define_config("config", "The experiment.")
SPREAD = flags.DEFINE_enum("spread", "shard_map", ["shard_map", "pmap"], "How, over devices.")
PARAMETER_SHARDS = flags.DEFINE_integer(
    "parameter_shards", 1, "Devices over which parameters are cut; pmap has one.", lower_bound=1
)


class Run(NamedTuple):
    """All that a config describes, checked, before anything is compiled.

    ``outer`` is the outer loop as one program; what is run is ``update``, on ``data_from(step)``,
    which is that same loop on the data, or one that is fed what is read ahead.
    """

    config: Mapping[str, Any]
    folder: pathlib.Path
    sources: Mapping[str, Source]
    outer: Update
    update: Update
    data_from: Callable[[int], Any]
    validate: Callable[[TrainState], Evaluation]
    train_state: TrainState
    key: Key


class Diverged(Exception):
    """A loss, a gradient or a parameter is no longer finite."""


def prepare(config: Mapping[str, Any], folder: pathlib.Path, data_dir: str | None) -> Run:
    """Builds a run and makes the folder its own; every mistake in a config is found here."""
    if SPREAD.value == "pmap" and PARAMETER_SHARDS.value > 1:
        raise ValueError(
            f"--parameter_shards is {PARAMETER_SHARDS.value}, and pmap has whole parameters on "
            "every device: leave --spread=pmap out."
        )
    sources = common.load_sources(config, data_dir, EVERYTHING)
    trained_spec, spec = config["learner"], workdir.evaluated_spec(config, {})
    sample = common.sampler(sources["train"], "train", config["train"], trained_spec)
    protocol = {name: config[name] for name in ("ways", "shots", "queries")}
    valid_sample, test_sample = (
        common.sampler(sources[split], split, protocol, spec) for split in ("valid", "test")
    )
    learner, evaluated = workdir.build_learners(config, EVERYTHING)
    loss, metric = (build(config[name], EVERYTHING) for name in ("loss", "metric"))
    optimizer = build(config["optimizer"], EVERYTHING)
    figures = {common.name_of(config["metric"]): metric}
    objective = build(config["objective"], EVERYTHING, learner=learner, loss=loss, metrics=figures)
    if "augment" in config:
        objective = augmented(objective, build(config["augment"], EVERYTHING))
    tasks, shards = config["meta_batch"], PARAMETER_SHARDS.value
    devices = common.devices_for(tasks) if shards == 1 else jax.devices()
    gradient = mean_gradient(objective, config["chunk"])
    spread = by_pmap(devices) if SPREAD.value == "pmap" else by_shard_map(devices, shards)
    outer = outer_loop(gradient, optimizer, sample, tasks, spread)
    init_key, key = jax.random.split(jax.random.key(config["seed"]))
    here = sources["train"].data
    sources = {
        split: source._replace(data=replicate(source.data, devices))
        for split, source in sources.items()
    }
    data = sources["train"].data
    example = jax.eval_shape(sample, data, key)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), example)

    def first() -> TrainState:
        return start(optimizer, *learner.init(init_key, zeros))

    # Never whole on one device, where it may not fit.
    laid_out = layout(jax.eval_shape(first), devices, shards)
    train_state = jax.jit(first, out_shardings=laid_out)()
    count = config["evaluation"]["validation_episodes"]
    scores = evaluator(evaluated, metric, valid_sample, count, config["chunk"], devices, shards)
    valid, valid_key = sources["valid"].data, common.evaluation_key(config, "valid")
    # Traced here for their checks of shapes and types, which are then in time.
    jax.eval_shape(lambda state: outer(state, data, key, 1), train_state)
    jax.eval_shape(scores, train_state.params, train_state.state, valid, valid_key)
    common.check_labels(sample, data, trained_spec.get("ways", trained_spec.get("classes")))
    common.check_labels(valid_sample, valid, spec.get("ways"))
    common.check_labels(test_sample, sources["test"].data, spec.get("ways"))
    workdir.claim_folder(folder, config, example)
    for sentence in checkpoint.set_aside_unreadable(folder / "checkpoints", train_state):
        common.say(f"Warning: {sentence}")

    def validate(train_state: TrainState) -> Evaluation:
        return summarize(scores(train_state.params, train_state.state, valid, valid_key))

    def data_from(step: int) -> Any:
        if not isinstance(sample, StreamedSampler):
            return data
        onto = partial(put, tasks=tasks, devices=devices, shards=shards)
        taken = places(tasks, devices, shards)
        return stream(sample, here, key, tasks, step, config["steps"], taken, onto)

    update = outer
    if isinstance(sample, StreamedSampler):
        update = streamed_loop(gradient, optimizer, tasks, spread)
    return Run(config, folder, sources, outer, update, data_from, validate, train_state, key)


def train(run: Run) -> None:
    """Takes the steps that are left, validating and saving on the way; raises ``Diverged``."""
    config = run.config
    opened = checkpoint.open_checkpoints(run.folder / "checkpoints", config["higher_is_better"])
    with opened as checkpoints, program.Interruption() as interruption:
        train_state = run.train_state
        info: dict[str, Any] = {"train_seconds": 0.0, "validation": None}
        saved = from_primary(checkpoints.latest_step())
        if saved is not None:
            train_state, info = checkpoint.load(checkpoints, saved, train_state)
        step = int(train_state.step)
        data = run.data_from(step)
        told = (run.folder, step, config["steps"], info["validation"])
        with Journal(*told) if is_primary() else nullcontext() as journal:
            while step < config["steps"]:
                began = time.monotonic()
                count = min(config["log_every"], config["steps"] - step)
                train_state, metrics = run.update(train_state, data, run.key, count)
                bad = first_non_finite(metrics, (train_state.params, train_state.state))
                if bad is not None:
                    raise Diverged(_diverged(step + bad + 1, checkpoints.latest_step(), run.folder))
                step += count
                if journal is not None:
                    journal.training(step, metrics)
                due = step % config["evaluation"]["every"] == 0 or step == config["steps"]
                if due:
                    score = run.validate(train_state)
                    if journal is not None:
                        journal.validation(step, score)
                    info["validation"] = score.mean
                info["train_seconds"] += time.monotonic() - began
                # Signals come to one process now and to another after its next steps.
                stopped = global_max(interruption.signal or 0)
                if due or stopped:
                    score_of_step = info["validation"] if due else math.nan
                    checkpoint.save(checkpoints, step, train_state, info, score_of_step)
                if stopped:
                    barrier("stopping")
                    sys.exit(_interrupted(signal.Signals(stopped), step))
        if saved is None and step == 0:
            checkpoint.save(checkpoints, step, train_state, info)


def _diverged(step: int, saved: int | None, folder: pathlib.Path) -> str:
    kept = f"the last good checkpoint is step {saved} in '{folder}/checkpoints'"
    if saved is None:
        kept = "no checkpoint was saved yet"
    return (
        f"the loss, its gradient or a parameter is not finite at step {step}; {kept}; try a "
        "smaller learning rate (of the optimizer or of the inner loop), fewer inner steps, or "
        "clipped gradients."
    )


def _interrupted(number: signal.Signals, step: int) -> str:
    return f"Stopped by {number.name} and saved at step {step}: run the same command to resume."


def main(arguments: list[str]) -> None:
    """Trains, evaluates on the test classes, and draws."""
    with program.one_sentence():
        if CONFIG.value is None or program.WORKDIR.value is None:
            raise ValueError(
                "--config and --workdir are needed, as in --config=experiments/configs/"
                "quickstart.py --workdir=runs/quickstart."
            )
        config, folder = common.plain(CONFIG.value), pathlib.Path(program.WORKDIR.value)
        run = prepare(config, folder, program.DATA_DIR.value)
    try:
        with program.one_sentence():
            train(run)
    except Diverged as error:
        sys.exit(f"Error: {error}")
    episodes = config["evaluation"]["episodes"]
    common.say(f"Evaluating the best checkpoint on {episodes} test episodes.")
    with program.one_sentence():
        result = measure(folder, run.sources["test"], "test", trust=EVERYTHING)
        workdir.write_atomically(folder / "result.json", json.dumps(result, indent=2) + "\n")
        if is_primary():
            plots.curve(folder)
        plots.episode(folder, run.sources["test"], EVERYTHING)
    if is_primary():
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    program.run(main)
