"""Compares methods on the same episodes, in one table and one plot.

  python -m experiments.compare --data=omniglot [--learners=all] [--shots=1,5] [--ways=5] \
      [--queries=15] [--episodes=600] [--steps=2000] [--seed=0] [--reference=prototypical] \
      [--workdir=runs/compare_omniglot] [--data_dir=DATA]

``--data`` names a module of ``experiments/configs``, or one of your own by its dotted name, with a
``DATA`` as in ``omniglot.py``. Every method has a run of its own in the folder, trained as by
``experiments.train``; methods that transfer features share the run ``pretrained`` or, as in
``simclr+logistic_regression``, that of another method that trains features. Finished work is kept:
the same command continues where it stopped, and with other methods reuses the results that exist.

Writes ``comparison.json``, ``comparison.md``, ``comparison.png`` and ``learning.png`` (the learning
curves of what was trained) for the methods that were asked for.
"""

import sys
from pathlib import Path

import jax
from absl import flags

from jaxmeta.runs import Stopped

from . import program, same_episodes

DATA = flags.DEFINE_string("data", None, "A module of experiments/configs, like omniglot.")
LEARNERS = flags.DEFINE_list("learners", ["all"], "Which methods, or all.")
SHOTS = flags.DEFINE_list("shots", ["1", "5"], "Support examples per class; each is evaluated.")
WAYS = flags.DEFINE_integer("ways", 5, "Classes of an episode.", lower_bound=2)
QUERIES = flags.DEFINE_integer("queries", 15, "Query examples per class.", lower_bound=1)
EPISODES = flags.DEFINE_integer("episodes", 600, "Test episodes per shot count.", lower_bound=2)
STEPS = flags.DEFINE_integer(
    "steps", None, "Outer steps of every run, instead of its config's.", lower_bound=1
)
SEED = flags.DEFINE_integer("seed", 0, "Seed of the training.")
REFERENCE = flags.DEFINE_string(
    "reference", None, "Method to compare others with; else prototypical, or the first."
)


def main(arguments: list[str]) -> None:
    """Compares what is asked for."""
    with program.one_sentence():
        if DATA.value is None:
            raise ValueError("--data is needed, as in --data=glyphs.")
        if jax.process_count() > 1:
            raise ValueError(
                f"{jax.process_count()} processes joined, and methods are compared by one: start "
                "one, and train large ones by experiments.train."
            )
        names = same_episodes.chosen(LEARNERS.value)
        data = same_episodes.load_data(DATA.value)
        protocol = same_episodes.Protocol(
            WAYS.value,
            same_episodes.chosen_shots(SHOTS.value),
            QUERIES.value,
            EPISODES.value,
            STEPS.value,
            SEED.value,
            program.DATA_DIR.value,
        )
        reference = same_episodes.chosen_reference(names, REFERENCE.value)
        folder = Path(program.WORKDIR.value or f"runs/compare_{DATA.value}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"'{folder}' cannot be made a folder ({error.strerror}): give another workdir."
            ) from error
        same_episodes.check_episodes(data, protocol)
        # Programs compiled for training are reused for measuring, and after a stop.
        jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    try:
        results = same_episodes.compare_all(folder, names, data, protocol, reference)
    except Stopped as stopped:
        sys.exit(str(stopped))
    if not results:
        sys.exit("Error: every method diverged: see above.")
    print((folder / "comparison.md").read_text())


def start() -> None:
    """The entry point of ``jaxmeta-compare``."""
    program.run(main)


if __name__ == "__main__":
    start()
