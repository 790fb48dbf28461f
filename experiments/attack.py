"""Attacks models that are to resist being tuned to harmful classes, and says how well they do.

  python -m experiments.attack --runs=runs/plain,runs/blocked [--shots=10,100] [--steps=1000] \
      [--splits=harmful,benign] [--rivals=noise,reset] [--heal=100] [--first=4] [--draws=30] \
      [--queries=4] [--workdir=runs/attack] [--data_dir=DATA] [--trust=mine]

``--runs`` are runs of one world, such as those of ``experiments/configs/resisting_fc100.py``; the
first has no defense, and names that differ only by a number at the end, as in ``blocked_0`` and
``blocked_1``, are seeds of one model. The threat model: an adversary who has the weights and n
examples, ``--shots`` of each class, and who tries every attack of ``jaxmeta.learners.attacks`` by
four optimizers at eight rates, for up to ``--steps`` steps. Training from scratch, by the same
grid, is the bound.

Rivals of a defense: noise, the first model with random noise of the same length as the first
defense's change; and reset, the first model whose last part is initialized anew and then trained on
the desired task for ``--heal`` steps, at least 50.

The best attack is chosen by successive halving on other episodes and classes than it is reported
on: all on ``--first`` episodes, the best twelve on twice as many, and the best three on
``--draws``, also after ``--heal`` steps of the desired task. Finished work is kept: the same
command continues where it stopped.

Writes ``attack.json``, ``attack.md``, and three pictures: ``attack_examples.png``, the accuracy of
the best adversary against n; ``attack_steps.png``, against its steps; ``attack_rates.png``, of each
rate and number of steps.
"""

from pathlib import Path

import jax
from absl import flags

from jaxmeta.learners import attacks
from jaxmeta.runs.spec import suggest

from . import attack_table, attacked_models, attacking, plots, program, same_episodes

RUNS = flags.DEFINE_list("runs", [], "Folders of runs; the first has no defense.")
SHOTS = flags.DEFINE_list("shots", ["10", "100"], "Examples of each class.")
STEPS = flags.DEFINE_integer("steps", 1_000, "Most steps of an attack.", lower_bound=1)
SPLITS = flags.DEFINE_list("splits", ["harmful", "benign"], "What is learned by attacks.")
RIVALS = flags.DEFINE_list("rivals", list(attacked_models.RIVALS), "Which rivals.")
HEAL = flags.DEFINE_integer("heal", 100, "Steps of the desired task before attacks.", lower_bound=0)
FIRST = flags.DEFINE_integer("first", 4, "Episodes for the whole grid.", lower_bound=2)
DRAWS = flags.DEFINE_integer("draws", 30, "Episodes to report on.", lower_bound=2)
QUERIES = flags.DEFINE_integer("queries", 4, "Queries of each class.", lower_bound=1)
TRUST = flags.DEFINE_list("trust", [], "Packages whose functions the runs' configs may name.")


def main(arguments: list[str]) -> None:
    """Attacks one model after the other, and reports after each."""
    with program.one_sentence():
        if len(RUNS.value) < 2:
            raise ValueError("--runs is needed, as in --runs=runs/plain,runs/blocked.")
        shots = same_episodes.chosen_shots(SHOTS.value)
        for name in RIVALS.value:
            if name not in attacked_models.RIVALS:
                raise ValueError(
                    f"There is no rival '{name}': {suggest(name, attacked_models.RIVALS)}."
                )
        world = attacked_models.load(
            [Path(each) for each in RUNS.value], program.DATA_DIR.value, TRUST.value
        )
        if not SPLITS.value:
            raise ValueError("--splits is empty: give harmful, benign or both.")
        for split in SPLITS.value:
            if split not in attack_table.SPLITS:
                raise ValueError(
                    f"There is no split '{split}': {suggest(split, attack_table.SPLITS)}."
                )
        setting = attacking.Setting(
            attacks(world.model, world.ways, steps=STEPS.value),
            world.ways,
            QUERIES.value,
            attacking.marks_of(STEPS.value),
            FIRST.value,
            DRAWS.value,
        )
        attacked_models.check_episodes(world, setting, SPLITS.value, shots)
        folder = Path(program.WORKDIR.value or "runs/attack")
        folder.mkdir(parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
        targets, desired = attacked_models.targets_of(world, RIVALS.value, HEAL.value)
    found: list[attacking.Attacked] = []
    for count in shots:
        probe = attacking.prober(setting, world.sources, count)
        for split in SPLITS.value:
            for target in targets:
                found.append(
                    attacked_models.kept(target, setting, probe, split, count, folder, world.about)
                )
                rows = attack_table.tabulated(found, targets[0].name, desired)
                attack_table.write(folder, found, rows)
                plots.attacks(folder, rows, found, setting.marks)
    print((folder / "attack.md").read_text())


def start() -> None:
    """The entry point of ``jaxmeta-attack``."""
    program.run(main)


if __name__ == "__main__":
    start()
