"""Estimators of the meta-gradient of a learned optimizer: bias, variance and time.

  python -m benchmarks.meta_gradients --workdir=runs/quadratics [--steps=100,1000] \
      [--stretch=20] [--tasks=1024] [--sigma=0.01]

``--workdir`` is a run of ``experiments/configs/quadratics.py``, whose learned optimizer stays as it
is. Each estimator's gradients are summed along whole trajectories, of ``--steps`` each in stretches
of ``--stretch``, for the mean loss over the steps. The truth is the mean over tasks of the gradient
through all steps, of which ``first_order`` treats inner gradients as constants.

- *bias*: the mean estimate along the direction of the truth, as a share of the truth's length, less
  one, with its 95% interval over tasks, paired with the truth of the same tasks;
- *deviation*: the standard deviation of one task's estimate, as a multiple of the truth's length;
- *seconds* for all tasks, after compiling.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging
from jax.flatten_util import ravel_pytree

from experiments import optimizing
from jaxmeta.evaluate import summarize
from jaxmeta.inner import LearnedOptimizer
from jaxmeta.objectives import Trajectory, evolution_strategies, trajectories
from jaxmeta.runs import workdir
from jaxmeta.runs.spec import build
from jaxmeta.types import Array, Carried, Key, Objective, PyTree

WORKDIR = flags.DEFINE_string("workdir", None, "A run of quadratics.py.", required=True)
STEPS = flags.DEFINE_list("steps", ["100", "1000"], "Lengths of trajectories.")
STRETCH = flags.DEFINE_integer("stretch", 20, "Steps of a stretch.", lower_bound=1)
TASKS = flags.DEFINE_integer("tasks", 1024, "Tasks.", lower_bound=2)
SIGMA = flags.DEFINE_float("sigma", 0.01, "Of evolution strategies.")
AT_A_TIME = 64

Estimate = Callable[[PyTree, Key], Array]
"""``(params, key) -> gradient [weights]`` of one task."""


def restarted(carry: PyTree) -> PyTree:
    """The carry with its trajectories at their beginning."""
    if isinstance(carry, Trajectory):
        return carry._replace(step=jnp.int32(0), done=jnp.bool_(True))
    return carry._replace(up=restarted(carry.up), down=restarted(carry.down))


def along_a_trajectory(objective: Objective, episodes: Callable, stretches: int) -> Estimate:  # type: ignore[type-arg]
    """The mean of an objective's gradients over the stretches of a trajectory."""

    def estimate(params: PyTree, key: Key) -> Array:
        episode_key, carry_key, loss_key = jax.random.split(key, 3)
        episode = episodes((), episode_key)
        assert objective.carry is not None
        begun = restarted(objective.carry(params, (), episode, carry_key))

        def go_on(carry: PyTree, key: Key) -> tuple[PyTree, Array]:
            def loss(params: PyTree) -> tuple[Array, PyTree]:
                value, report = objective.loss(params, (), Carried(episode, carry), key)
                return value, report.carry

            gradient, carry = jax.grad(loss, has_aux=True)(params)
            return carry, ravel_pytree(gradient)[0]

        _, gradients = jax.lax.scan(go_on, begun, jax.random.split(loss_key, stretches))
        return jnp.mean(gradients, axis=0)

    return estimate


def measured(estimate: Estimate, params: PyTree, tasks: int) -> tuple[np.ndarray, float]:
    """The estimates ``[tasks, weights]``, and the seconds that they took."""
    keys = jax.random.split(jax.random.key(0), tasks)

    @jax.jit
    def run(params: PyTree, keys: Key) -> Array:
        return jax.lax.map(lambda key: estimate(params, key), keys, batch_size=AT_A_TIME)

    jax.block_until_ready(run(params, keys))
    began = time.perf_counter()
    gradients = jax.block_until_ready(run(params, keys))
    return np.asarray(gradients, np.float64), time.perf_counter() - began


def main(arguments: list[str]) -> None:
    """Prints a line of JSON for each estimator and length, and the table."""
    del arguments
    logging.set_verbosity(logging.ERROR)  # Orbax logs every file it touches
    folder = Path(WORKDIR.value)
    problems, _ = optimizing.load(folder, None, ())
    learned = build(workdir.read_config(folder)["learner"]["inner"]["optimizer"])
    assert isinstance(learned, LearnedOptimizer)
    params = {"hyper": workdir.restore(folder).params["hyper"]}
    episodes = problems.sources["train"].episodes(**problems.protocol)
    head = ["steps", "estimator", "bias, %", "deviation of one task", "seconds"]
    lines = [head, ["---"] * len(head)]
    for steps in map(int, STEPS.value):

        def stretched(length: int, steps: int = steps, first_order: bool = False) -> Objective:
            return trajectories(
                problems.model,
                learned,
                problems.loss,
                stretch=length,
                horizon=steps,
                first_order=first_order,
            )

        def noisy(length: int, noise: str, stretched: Callable = stretched) -> Objective:  # type: ignore[type-arg]
            return evolution_strategies(stretched(length), SIGMA.value, noise)

        short: int = STRETCH.value
        rows: dict[str, tuple[Objective, int]] = {
            "through all steps": (stretched(steps), steps),
            "through all steps, first order": (stretched(steps, first_order=True), steps),
            "truncated": (stretched(short), short),
            "truncated, first order": (stretched(short, first_order=True), short),
            "evolution strategies, whole": (noisy(steps, "fresh"), steps),
            "evolution strategies, persistent": (noisy(short, "persistent"), short),
            "evolution strategies, single": (noisy(short, "single"), short),
            "evolution strategies, fresh": (noisy(short, "fresh"), short),
        }
        exact = np.zeros((0, 0))
        for name, (objective, length) in rows.items():
            estimate = along_a_trajectory(objective, episodes, steps // length)
            found, seconds = measured(estimate, params, TASKS.value)
            exact = found if not exact.size else exact
            truth = exact.mean(axis=0)
            square = truth @ truth
            apart = (found - exact) @ truth / square
            spread = np.sqrt(((found - found.mean(axis=0)) ** 2).sum(axis=1).mean() / square)
            bias = summarize(apart)
            row = {"steps": steps, "estimator": name, **bias._asdict(), "deviation": float(spread)}
            print(json.dumps({**row, "seconds": seconds}), flush=True)
            shown = f"{100 * bias.mean:+.1f} ± {100 * bias.ci95:.1f}"
            lines.append([f"{steps:,}", name, shown, f"{spread:.3g}", f"{seconds:.1f}"])
    print("\n".join(f"| {' | '.join(cells)} |" for cells in lines))


if __name__ == "__main__":
    app.run(main)
