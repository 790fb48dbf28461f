"""What imagined examples gain, from a plain learner up to real examples, in one table and plot.

  python -m experiments.ladder --features=RUN/features.npz [--learners=prototypical] \
      [--shots=1,2,5] [--rungs=all] [--extra=4] [--seeds=5] [--rates=0.0003,0.001] \
      [--steps=1000] [--episodes=2000] [--classes=] [--images=100] [--workdir=runs/ladder]

``--features`` is a file that ``experiments.features`` writes. Rungs:

- plain, the learner as it is; untrained, before training; larger, with about as many parameters as
  with a generator;
- copies, of each example; zero, a generator without noise; noise, of a learned size; calibration,
  by the statistics of training classes;
- generator; learned_codes, in place of noise; shuffled, a generator of classes without meaning,
  trained beside the plain learner, which stays as it is;
- oracle, as many real examples as others imagine.

``copies``, ``calibration`` and ``oracle`` use what ``plain`` has learned. Learners: prototypical,
prototypical_scaled (of features of unit length, with a learned temperature), matching,
prototype_matching, ridge, and logistic_regression, which has no outer loop and so no generator;
its penalty is chosen in place of a rate.

With ``--classes=5,8,16,32,64``, generators are also trained alone, on ``--images`` examples of so
many training classes, which each seed draws anew, beside a plain learner that has learned from all
of them and stays as it is: in the table, ``generator:16``, and in ``classes.png``.

With several rates, the first seed of each rung is trained at every rate, and the others at the one
with the best validation. All rungs have the same test episodes. Finished work is kept: the same
command continues where it stopped. Intervals are of 95%, for other seeds and other episodes.

Writes ``ladder.json``, ``ladder.md`` and ``ladder.png``, and into a folder for each learner and
number of shots ``imagined.png``, what the first generator imagines of four test classes.
"""

import hashlib
import sys
from pathlib import Path
from typing import Any

import jax
from absl import flags

from jaxmeta.data import features
from jaxmeta.runs import Stopped
from jaxmeta.runs.spec import suggest

from . import hallucinating, imagined, ladder_table, multitasking, plots, program, same_episodes
from .configs import hallucination

FEATURES = flags.DEFINE_string("features", None, "A file that experiments.features wrote.")
LEARNERS = flags.DEFINE_list("learners", ["prototypical"], "Which learners.")
SHOTS = flags.DEFINE_list("shots", ["1", "2", "5"], "Support examples per class.")
RUNGS = flags.DEFINE_list("rungs", ["all"], "Which rungs, or all.")
COUNTS = flags.DEFINE_list("classes", [], "Of how many classes generators learn alone.")
IMAGES = flags.DEFINE_integer("images", 100, "Examples of each such class.", lower_bound=16)
EXTRA = flags.DEFINE_integer("extra", 4, "Imagined examples for each real one.", lower_bound=1)
SEEDS = flags.DEFINE_integer("seeds", 5, "Runs of each rung, with seeds from 0.", lower_bound=1)
RATES = flags.DEFINE_list("rates", ["0.0003", "0.001"], "Outer learning rates to choose from.")
STEPS = flags.DEFINE_integer("steps", 1_000, "Outer steps.", lower_bound=1)
EPISODES = flags.DEFINE_integer("episodes", 2_000, "Test episodes.", lower_bound=2)


def main(arguments: list[str]) -> None:
    """Climbs one learner and number of shots after the other, and reports after each rung."""
    with program.one_sentence():
        if FEATURES.value is None:
            raise ValueError("--features is needed, as in --features=runs/pretrained/features.npz.")
        known = [*hallucination.LEARNERS, hallucinating.FIXED]
        for name in LEARNERS.value:
            if name not in known:
                raise ValueError(f"There is no learner '{name}': {suggest(name, known)}.")
        data = features(FEATURES.value)
        size = data["train"].data.examples.shape[1]
        asked = hallucination.Imagining(
            path=str(Path(FEATURES.value).resolve()),
            digest=hashlib.sha256(Path(FEATURES.value).read_bytes()).hexdigest(),
            extra=EXTRA.value,
            steps=STEPS.value,
            size=size,
            examples=IMAGES.value,
        )
        shots = same_episodes.chosen_shots(SHOTS.value)
        rates = multitasking.rates_of(RATES.value)
        if not LEARNERS.value or not rates:
            raise ValueError("--learners or --rates is empty: give one or more of each.")
        rungs = {
            name: hallucinating.rungs_of(RUNGS.value, name, COUNTS.value) for name in LEARNERS.value
        }
        base = hallucinating.statistics_of(data)
        protocols = [
            hallucinating.Protocol(
                asked._replace(learner=name, shots=count),
                SEEDS.value,
                rates,
                EPISODES.value,
                data,
                base,
            )
            for name in rungs
            for count in shots
        ]
        for protocol in protocols:
            hallucinating.check_episodes(protocol, rungs[protocol.asked.learner])
        imagined.check_examples(data["test"])
        folder = Path(program.WORKDIR.value or "runs/ladder")
        folder.mkdir(parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    outcomes: list[ladder_table.Outcome] = []
    left_out: list[str] = []
    generators: list[dict[str, Any]] = []

    def report(outcome: ladder_table.Outcome) -> None:
        outcomes.append(outcome)
        rows = ladder_table.write(folder, outcomes, left_out, generators)
        plots.ladder(folder, [row for row in rows if ":" not in row["rung"]])
        plots.classes(folder, [row for row in rows if ":" in row["rung"]])

    def leave_out(what: str) -> None:
        print(f"left out: {what}", file=sys.stderr)
        left_out.append(what)
        ladder_table.write(folder, outcomes, left_out, generators)

    for protocol in protocols:
        learner, count = protocol.asked.learner, protocol.asked.shots
        try:
            with program.one_sentence():
                hallucinating.climb(protocol, rungs[learner], folder, report, leave_out)
        except Stopped as stopped:
            sys.exit(str(stopped))
        drawn = hallucinating.drawn_from(protocol, outcomes, folder, data["test"].classes or 1)
        for rung, found in drawn.items():
            about = {"learner": learner, "shots": count, "rung": rung}
            generators.append(about | imagined.realism(found))
            if rung == "generator":
                few = imagined.Imagined(*(each[:4] for each in found))
                plots.imagined(hallucinating.folder_of(folder, protocol.asked), few)
        ladder_table.write(folder, outcomes, left_out, generators)
    print((folder / "ladder.md").read_text())


def start() -> None:
    """The entry point of ``jaxmeta-ladder``."""
    program.run(main)


if __name__ == "__main__":
    start()
