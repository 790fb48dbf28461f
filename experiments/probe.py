"""Judges the features of runs: by probes, without labels, and on few-shot tasks, the same for all.

  python -m experiments.probe --workdirs=runs/simclr,runs/byol [--split=test] [--shots=1,5] \
      [--episodes=600] [--learners=nearest_mean,logistic_regression] \
      [--statistics=best|averaged|clean] [--neighbors=20] [--seed=0] [--data_dir=DIR] [--trust=mine]

Features are the outputs of the model, at the best checkpoint of each run, for all images of the
split, whose classes were not trained on unless it is ``train``. The images of each class are
divided into three parts, at random by ``--seed``: probes are fitted to the first, their penalties
chosen on the second, and their answers judged on the third.

``--statistics`` says what normalizes the features of a model that keeps statistics: ``averaged``,
the averages that the run kept while it trained, of images changed as they were; ``clean``,
statistics estimated anew of training images as they are; ``best``, the better one of the two on
validation tasks.

Writes ``probe.json``, ``features.png`` and, for a run over changed images, ``views.png`` into the
folder of each run, and prints a table. Its columns *minus* are differences to the first run on the
same few-shot tasks.
"""

from absl import flags

from jaxmeta.runs import tasks

from . import judging, program, same_episodes

WORKDIRS = flags.DEFINE_list("workdirs", [], "The folders of runs; the first is the reference.")
SPLIT = flags.DEFINE_enum("split", "test", tasks.SPLITS, "Whose images and tasks.")
SHOTS = flags.DEFINE_list("shots", ["1", "5"], "Support examples a class; each is evaluated.")
EPISODES = flags.DEFINE_integer("episodes", 600, "Few-shot tasks for each.", lower_bound=2)
LEARNERS = flags.DEFINE_list(
    "learners", ["nearest_mean", "logistic_regression"], "What solves them on the features."
)
STATISTICS = flags.DEFINE_enum(
    "statistics", "best", ["best", "averaged", "clean"], "What normalizes the features."
)
NEIGHBORS = flags.DEFINE_integer("neighbors", 20, "How many vote.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "Of the division into parts.", lower_bound=0)
TRUST = flags.DEFINE_list("trust", [], "Packages whose functions the runs' configs may name.")


def main(arguments: list[str]) -> None:
    """Judges what is asked for."""
    with program.one_sentence():
        protocol = judging.Protocol(
            split=SPLIT.value,
            learners=judging.chosen(LEARNERS.value),
            shots=same_episodes.chosen_shots(SHOTS.value),
            episodes=EPISODES.value,
            statistics=STATISTICS.value,
            neighbors=NEIGHBORS.value,
            seed=SEED.value,
            data_dir=program.DATA_DIR.value,
            trust=tuple(TRUST.value),
        )
        prepared = judging.prepare(WORKDIRS.value, protocol)
    print(judging.table(judging.judge_all(prepared)))


def start() -> None:
    """What ``jaxmeta-probe`` runs."""
    program.run(main)


if __name__ == "__main__":
    start()
