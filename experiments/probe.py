"""Judges the features of runs: by probes, without labels, and on the same few-shot tasks for all.

  python -m experiments.probe --workdirs=runs/simclr,runs/byol [--split=test] [--shots=1,5] \
      [--episodes=600] [--learners=nearest_mean,logistic_regression] \
      [--statistics=best|averaged|clean] [--checkpoint=best|last] [--neighbors=20] [--seed=0] \
      [--data_dir=DIR] [--trust=mine]

Features are the outputs of the model, at one checkpoint of each run, for all images of the
split, whose classes were not trained on unless it is ``train``. The images of each class are
divided into three parts at random (``--seed``): probes are fitted to the first, their penalties are
chosen on the second, and they are evaluated on the third.

``--statistics`` chooses what normalizes the features of a model that keeps statistics:
``averaged``, the run's running averages, over images augmented as in training; ``clean``,
statistics estimated anew from training images without augmentation; ``best``, the better of the two
on validation tasks. A checkpoint of step 0 has no averages, so its features are normalized by clean
statistics, whatever is asked for.

Writes ``probe.json``, ``features.png`` and, for a run over augmented images, ``views.png`` into the
folder of each run, and prints a table. Its *minus* columns are differences from the first run on
the same few-shot tasks.
"""

from absl import flags

from jaxmeta.runs import tasks, workdir

from . import judging, program, same_episodes

WORKDIRS = flags.DEFINE_list("workdirs", [], "The folders of runs; the first is the reference.")
SPLIT = flags.DEFINE_enum("split", "test", tasks.SPLITS, "The split of images and tasks.")
SHOTS = flags.DEFINE_list("shots", ["1", "5"], "Support examples per class; each is evaluated.")
EPISODES = flags.DEFINE_integer("episodes", 600, "Few-shot tasks for each.", lower_bound=2)
LEARNERS = flags.DEFINE_list(
    "learners", ["nearest_mean", "logistic_regression"], "What solves the tasks on the features."
)
STATISTICS = flags.DEFINE_enum(
    "statistics", "best", ["best", "averaged", "clean"], "What normalizes the features."
)
NEIGHBORS = flags.DEFINE_integer("neighbors", 20, "Neighbors that vote.", lower_bound=1)
CHECKPOINT = flags.DEFINE_enum(
    "checkpoint", "best", workdir.CHECKPOINTS, "The best one by validation tasks, or the last."
)
SEED = flags.DEFINE_integer("seed", 0, "Seed of the division into parts.", lower_bound=0)
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
            checkpoint=CHECKPOINT.value,
            neighbors=NEIGHBORS.value,
            seed=SEED.value,
            data_dir=program.DATA_DIR.value,
            trust=tuple(TRUST.value),
        )
        prepared = judging.prepare(WORKDIRS.value, protocol)
        results = judging.judge_all(prepared)
    print(judging.table(results))


def start() -> None:
    """The entry point of ``jaxmeta-probe``."""
    program.run(main)


if __name__ == "__main__":
    start()
