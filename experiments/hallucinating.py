"""The rungs of a ladder from a plain learner to real examples, for ``experiments.ladder``."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxmeta import probes
from jaxmeta.data import fewer_examples
from jaxmeta.distributed.parallel import by_shard_map, replicate
from jaxmeta.evaluate import evaluator
from jaxmeta.keys import streams
from jaxmeta.learners import (
    ClassStatistics,
    calibrated,
    class_statistics,
    embedded,
    hallucinated,
    logistic_regression,
)
from jaxmeta.losses import accuracy
from jaxmeta.nn import from_functions, identity, power
from jaxmeta.runs import EVERYTHING, Diverged, prepare, train, workdir
from jaxmeta.runs.config import build_model, complete, made
from jaxmeta.runs.spec import suggest
from jaxmeta.runs.writers import read_json_lines
from jaxmeta.types import Learner, PyTree, Source

from .configs import hallucination
from .imagined import Imagined, imagine
from .ladder_table import ORACLE, PLAIN, RUNGS, Outcome, chosen_rates, classes_of

UNTRAINED = ("plain", "copies", "calibration", "oracle")
"""What a learner without an outer loop has."""
FIXED = "logistic_regression"
"""The learner without an outer loop."""
INVERSE_PENALTIES = (1.0, 10.0, 100.0)
"""Of that learner, in place of rates."""
CHOOSING = 200
"""Validation episodes by which it is chosen."""
SAMPLES = 750
"""Of the calibrated distributions, for each class, where the learner takes them one by one."""


class Protocol(NamedTuple):
    """What all rungs share.

    Attributes:
      asked: the features and what is trained on them.
      seeds: runs of each rung, with seeds from 0.
      rates: outer learning rates to choose from.
      episodes: test episodes.
      data: the features.
      base: statistics of the training classes.
    """

    asked: hallucination.Imagining
    seeds: int
    rates: Sequence[float]
    episodes: int
    data: Mapping[str, Source]
    base: ClassStatistics


class Solver(NamedTuple):
    """A learner, with what it was given by training."""

    learner: Learner
    params: PyTree
    state: PyTree


def statistics_of(data: Mapping[str, Source]) -> ClassStatistics:
    """The statistics of the training classes, of features to the power that learners see.

    Raises:
      ValueError: features are negative, of which there is no such power.
    """
    for split, source in data.items():
        negative = float((source.data.examples < 0).mean())
        if negative > 0:
            raise ValueError(
                f"{100 * negative:.1f}% of the features of the {split} split are negative, and "
                "their square roots are taken: give those of a network that ends with a ReLU."
            )
    batch = probes.all_examples(data["train"])
    front = power(0.5)
    return class_statistics(front.apply({}, {}, batch.x)[0], batch.y)


def rungs_of(given: Sequence[str], learner: str, classes: Sequence[str] = ()) -> list[str]:
    """The rungs asked for, the plain one first; raises ``ValueError`` if there is none of a name.

    A learner without an outer loop has fewer. With ``classes``, generators are also trained alone,
    on so many classes each.
    """
    for rung in given:
        if rung not in (*RUNGS, "all"):
            raise ValueError(f"There is no rung '{rung}': {suggest(rung, RUNGS)}.")
    asked = [rung for rung in RUNGS if "all" in given or rung in given or rung == PLAIN]
    if learner == FIXED:
        return [rung for rung in asked if rung in UNTRAINED]
    for each in classes:
        if not each.isdigit() or int(each) < 5:
            raise ValueError(f"--classes has '{each}': give numbers of 5 or more, as tasks need.")
    return [*asked, *(f"generator:{each}" for each in classes)]


def is_alone(rung: str) -> bool:
    """Whether a generator is trained alone, beside a plain learner that stays as it is."""
    return rung == "shuffled" or classes_of(rung) is not None


def check_episodes(protocol: Protocol, rungs: Sequence[str]) -> None:
    """Raises ``ValueError``, before anything is trained, if classes or examples are too few."""
    asked, most = protocol.asked, 1 + protocol.asked.extra
    for split in ("train", "valid", "test"):
        shots = asked.shots * (most if split == "test" and ORACLE in rungs else 1)
        protocol.data[split].episodes(ways=5, shots=shots, queries=15)
    for classes in filter(None, map(classes_of, rungs)):
        some = fewer_examples({"train": protocol.data["train"]}, classes, asked.examples)
        some["train"].episodes(ways=5, shots=asked.shots, queries=15)


def folder_of(folder: Path, asked: hallucination.Imagining) -> Path:
    """Where all rungs of a learner are, on these features."""
    return folder / f"{asked.learner}_{asked.shots}_{asked.digest[:8]}"


def run_folder(
    folder: Path, asked: hallucination.Imagining, rung: str, rate: float, seed: int
) -> Path:
    """Where a rung is trained."""
    name = rung.replace(":", "_of_") + (f"x{asked.examples}" if classes_of(rung) else "")
    return folder_of(folder, asked) / f"{name}_{rate:g}_{seed}"


def trained(
    protocol: Protocol, rung: str, seed: int, rate: float, folder: Path, plain_rate: float = 0.0
) -> tuple[Solver, float]:
    """Trains a rung if it is not yet trained; returns it with its best validation accuracy.

    Args:
      protocol: what all rungs share.
      rung: the rung.
      seed: its seed.
      rate: its outer learning rate.
      folder: where all is kept.
      plain_rate: the rate of the plain learner that a generator is trained beside.

    Raises:
      Diverged: its training diverged.
    """
    asked = protocol.asked
    if is_alone(rung):
        plain = run_folder(folder, asked, PLAIN, plain_rate, seed)
        asked = asked._replace(classes=classes_of(rung), frozen=str(plain.resolve()))
    config = hallucination.configure(asked._replace(rate=rate), rung.partition(":")[0])
    config.seed = seed
    own = run_folder(folder, protocol.asked, rung, rate, seed)
    train(prepare(complete(config), own, None))
    restored = workdir.restore(own, trust=EVERYTHING)
    rows = read_json_lines(own / "metrics.jsonl") if config.steps else []
    best = [row["validation/accuracy"] for row in rows if "validation/accuracy" in row]
    return Solver(*restored), max(best, default=0.0)


def unlearned(inverse_penalty: float) -> Solver:
    """Logistic regression on the features."""
    learner = logistic_regression(identity(), ways=5, inverse_penalty=inverse_penalty)
    nothing: PyTree = {"model": {}, "learner": {"model": {}}}
    return Solver(embedded(power(0.5), learner), nothing, {"model": {}, "learner": {}})


def untrained(protocol: Protocol, plain: Solver, rung: str, inverse_penalty: float = 1.0) -> Solver:
    """A rung that needs no training, around a plain learner that was trained or needs none."""
    if rung in (PLAIN, ORACLE):
        return plain
    asked = protocol.asked
    params, state = plain.params["learner"], plain.state["learner"]
    if rung == "copies":
        copying = from_functions(lambda key, x: {}, lambda params, x: x[:, : asked.size])
        inner = hallucinated(
            inner_of(protocol, inverse_penalty), copying, asked.extra, codes="zero"
        )
        params = {**params, "generator": {"model": {}}}
    else:
        extra = asked.extra if asked.learner != FIXED else SAMPLES // asked.shots
        inner = calibrated(inner_of(protocol, inverse_penalty), protocol.base, extra)
        state = {"learner": state, "base": protocol.base}
    return Solver(
        embedded(power(0.5), inner),
        {**plain.params, "learner": params},
        {**plain.state, "learner": state},
    )


def inner_of(protocol: Protocol, inverse_penalty: float) -> Learner:
    """The plain learner of features to the power, without what is in front of it."""
    if protocol.asked.learner == FIXED:
        return logistic_regression(identity(), ways=5, inverse_penalty=inverse_penalty)
    config = complete(hallucination.configure(protocol.asked, PLAIN))
    model = build_model(config, EVERYTHING)
    return made(Learner, "learner", config["learner"]["learner"], EVERYTHING, {"model": model})


def accuracies(
    protocol: Protocol, solver: Solver, rung: str, split: str = "test", episodes: int | None = None
) -> list[float]:
    """The accuracy on each episode; the oracle has as many real examples as imagined ones.

    The classes and queries of an episode are the same for all rungs.
    """
    asked = protocol.asked
    shots = asked.shots * (1 + asked.extra) if rung == ORACLE else asked.shots
    source = protocol.data[split]
    sample = source.episodes(ways=5, shots=shots, queries=15)
    devices, count = jax.devices(), episodes or protocol.episodes
    run = evaluator(
        solver.learner, {"accuracy": accuracy}, sample, count, spread=by_shard_map(devices)
    )
    key = getattr(streams(0), split)
    given = replicate((solver.params, solver.state, source.data, key), devices)
    values: list[float] = np.asarray(run(*given)["accuracy"], np.float64).tolist()
    return values


def climb(
    protocol: Protocol,
    rungs: Sequence[str],
    folder: Path,
    report: Callable[[Outcome], None],
    leave_out: Callable[[str], None],
) -> None:
    """Trains and evaluates all rungs of one learner and number of shots.

    Args:
      protocol: what they share.
      rungs: the rungs, the plain one first.
      folder: where all is kept.
      report: is told each outcome.
      leave_out: is told what diverged.
    """
    asked = protocol.asked
    outcomes: list[Outcome] = []

    def add(rung: str, seed: int, rate: float, solver: Solver, validation: float) -> None:
        path = run_folder(folder, asked, rung, rate, seed)
        path = path.with_name(path.name + ".json")
        about = {"asked": asked._asdict(), "episodes": protocol.episodes}
        stored = json.loads(path.read_text()) if path.exists() else {}
        if {name: stored.get(name) for name in about} != json.loads(json.dumps(about)):
            stored = {**about, "values": accuracies(protocol, solver, rung)}
            path.parent.mkdir(parents=True, exist_ok=True)
            workdir.write_atomically(path, json.dumps(stored))
        outcomes.append(
            Outcome(asked.learner, asked.shots, rung, seed, rate, validation, stored["values"])
        )
        report(outcomes[-1])

    def learn(rung: str, seed: int, rate: float) -> None:
        plain_rate = chosen_rates(outcomes).get(PLAIN, 0.0)
        try:
            add(rung, seed, rate, *trained(protocol, rung, seed, rate, folder, plain_rate))
        except Diverged as error:
            leave_out(f"{asked.learner}, {asked.shots}-shot, {rung}, {rate:g}, {seed} ({error})")

    if asked.learner == FIXED:
        for rung in rungs:
            tried = {
                inverse: untrained(protocol, unlearned(inverse), rung, inverse)
                for inverse in INVERSE_PENALTIES
            }
            scores = {
                inverse: float(np.mean(accuracies(protocol, solver, rung, "valid", CHOOSING)))
                for inverse, solver in tried.items()
            }
            best = max(scores, key=lambda inverse: scores[inverse])
            add(rung, 0, best, tried[best], scores[best])
        return
    learned = [rung for rung in rungs if rung.partition(":")[0] in hallucination.TRAINED]
    for seed in range(protocol.seeds):
        for rung in learned:
            chosen = chosen_rates(outcomes)
            if rung != PLAIN and not any((PLAIN, seed) == (e.rung, e.seed) for e in outcomes):
                break  # there is nothing to compare with
            if rung == "untrained":
                learn(rung, seed, protocol.rates[0])
            elif seed == 0:
                for rate in protocol.rates:
                    learn(rung, seed, rate)
            elif rung in chosen:
                learn(rung, seed, chosen[rung])
        else:
            rate = chosen_rates(outcomes)[PLAIN]
            plain, validation = trained(protocol, PLAIN, seed, rate, folder)
            for rung in (rung for rung in rungs if rung not in learned):
                add(rung, seed, rate, untrained(protocol, plain, rung), validation)


def drawn_from(
    protocol: Protocol, outcomes: Sequence[Outcome], folder: Path, classes: int
) -> dict[str, Imagined]:
    """What the generators of the first seed imagine of test classes, by rung."""
    asked = protocol.asked
    own = [each for each in outcomes if (each.learner, each.shots) == (asked.learner, asked.shots)]
    found = {}
    for rung, rate in chosen_rates(own).items():
        if rung.partition(":")[0] == "generator":
            solver, _ = trained(protocol, rung, 0, rate, folder, chosen_rates(own)[PLAIN])
            params = solver.params["learner"]["generator"]["model"]
            found[rung] = imagine(params, protocol.data["test"], classes, streams(0).init)
    return found
