"""Searching for the best attack on a model by successive halving, for ``experiments.attack``."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.distributed.parallel import by_shard_map, replicate
from jaxmeta.evaluate import evaluator
from jaxmeta.keys import streams
from jaxmeta.learners import on_new_network
from jaxmeta.learners.attacks import OPTIMIZERS, RATES, tuning
from jaxmeta.losses import accuracy
from jaxmeta.types import Array, Batch, Key, Learner, Metrics, PyTree, Source

SCRATCH = "scratch"
WEAK = ("zeros, 16", "momentum", 1e-4)
"""The attack by which SOPHON was judged: momentum at a small rate, on batches, with a new layer."""
FINALISTS, SEMIFINALISTS = 3, 12


class Target(NamedTuple):
    """A model that is attacked.

    Attributes:
      name: what it is called; those that differ only by seed share it.
      seed: its seed.
      params: ``{"model": ...}``; empty for training from scratch.
      state: of the model.
      healed: the same after some steps of the desired task, ``(params, state)``; ``None`` if there
        is no such thing.
    """

    name: str
    seed: int
    params: PyTree
    state: PyTree
    healed: tuple[PyTree, PyTree] | None = None


class Cell(NamedTuple):
    """One attack of the grid.

    Attributes:
      attack: its name.
      optimizer: how it descends.
      rate: its rate.
      healed: whether some steps of the desired task go before it.
    """

    attack: str
    optimizer: str
    rate: float
    healed: bool = False


class Setting(NamedTuple):
    """What all attacks share.

    Attributes:
      grid: the attacks by name.
      ways: classes of an episode.
      queries: queries of each class.
      marks: after how many steps attacks are judged.
      first: episodes on which the whole grid is tried; those that are left have more.
      draws: episodes on which the last ones are chosen, and as many to report on.
    """

    grid: Mapping[str, Learner]
    ways: int
    queries: int
    marks: Sequence[int]
    first: int
    draws: int


class Attacked(NamedTuple):
    """The best attack on a model, chosen on other episodes than those it is reported on.

    Attributes:
      name: the model.
      seed: its seed.
      split: what is learned, harmful or benign classes.
      shots: examples of each class.
      examples: n, the size of the support set.
      cell: the attack.
      steps: its steps.
      values: its accuracy on each reported episode.
      curve: after each of the marks, the mean accuracy of the best attack at hand that is stopped
        there, on the reported episodes.
      upper: the most that one of the last few attacks reaches, chosen on the reported episodes.
      weak: the accuracy of :data:`WEAK` on each reported episode, at the last mark.
      by_rate: for each rate and mark, the best of the grid on the first episodes.
    """

    name: str
    seed: int
    split: str
    shots: int
    examples: int
    cell: Cell
    steps: int
    values: Sequence[float]
    curve: Sequence[float]
    upper: float
    weak: Sequence[float]
    by_rate: Sequence[Sequence[float]]


def marks_of(steps: int) -> list[int]:
    """After how many steps attacks are judged: 1, 3, 10, 30 and so on, and the last.

    >>> marks_of(50)
    [1, 3, 10, 30, 50]
    """
    rounds = (count * 10**power for power in range(9) for count in (1, 3))
    return [*(mark for mark in rounds if mark < steps), steps]


def at_marks(attack: Learner, marks: Sequence[int]) -> Learner:
    """A learner whose outputs ``[marks, n, ways]`` are those after some numbers of steps."""
    walk = attack.path
    assert walk is not None

    def adapt(params: PyTree, state: PyTree, support: Batch, key: Key) -> tuple[PyTree, Metrics]:
        rows, _ = walk(params, state, support, key)
        return jax.tree.map(lambda leaf: leaf[jnp.asarray(marks)], rows), {}

    def predict(
        params: PyTree,
        state: PyTree,
        adapted: PyTree,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
    ) -> tuple[Array, PyTree]:
        def one(row: PyTree) -> Array:
            return attack.predict(params, state, row, x, mask, key)[0]

        return jax.lax.map(one, adapted), state

    return Learner(attack.init, adapt, predict)


def accuracies(outputs: Array, y: Array, mask: Array) -> Array:
    """The accuracy of each row of ``[marks, n, ways]``."""
    return jax.vmap(accuracy, (0, None, None))(outputs, y, mask)


Probe = Callable[[Target, Cell, str, int, Key], np.ndarray]
"""``(target, cell, split, episodes, key) -> accuracies [episodes, marks]``."""


def prober(setting: Setting, sources: Mapping[str, Source], shots: int) -> Probe:
    """Compiles each attack once for all tunings and models, when it is first needed."""
    programs: dict[tuple[Any, ...], Callable[..., Metrics]] = {}
    devices = jax.devices()

    def probe(target: Target, cell: Cell, split: str, episodes: int, key: Key) -> np.ndarray:
        new = target.name == SCRATCH
        place = (cell.attack, new, split)
        source = sources[split]
        if place not in programs:
            attack = setting.grid[cell.attack]
            learner = at_marks(on_new_network(attack) if new else attack, setting.marks)
            sample = source.episodes(ways=setting.ways, shots=shots, queries=setting.queries)
            programs[place] = evaluator(
                learner,
                {"accuracy": accuracies},
                sample,
                setting.first,  # at a time
                chunk=1,
                spread=by_shard_map(devices),
            )
        params, state = target.params, target.state
        if cell.healed:
            assert target.healed is not None
            params, state = target.healed
        tuned = {**params, "hyper": tuning(cell.optimizer, cell.rate)}
        rows = []
        for own in jax.random.split(key, -(-episodes // setting.first)):
            given = replicate((tuned, state, source.data, own), devices)
            rows.append(np.asarray(programs[place](*given)["accuracy"], np.float64))
        return np.concatenate(rows)[:episodes]

    return probe


def attacked(
    target: Target, setting: Setting, probe: Probe, split: str, choosing: str, shots: int
) -> Attacked:
    """The best attack on a model, by successive halving.

    All are tried on the first few episodes; the best twelve on twice as many others; and the best
    three, also after healing, on ``draws`` others. The best of these is reported, on ``draws``
    further ones.

    Args:
      target: the model.
      setting: what all attacks share.
      probe: measures an attack.
      split: what is learned.
      choosing: the split of the episodes on which attacks are chosen.
      shots: examples of each class.
    """
    # Other keys than those of the reported episodes, even where the two splits are one.
    rounds = jax.random.split(streams(0).valid, 3)
    ways_to_descend = list(itertools.product(OPTIMIZERS, RATES))
    reported = streams(0).test
    cells = [Cell(name, *each) for name in setting.grid for each in ways_to_descend]
    first = {cell: probe(target, cell, choosing, setting.first, rounds[0]) for cell in cells}
    by_rate = [
        np.max([first[cell].mean(axis=0) for cell in cells if cell.rate == rate], axis=0).tolist()
        for rate in RATES
    ]
    left = best_of(first, SEMIFINALISTS)
    count = 2 * setting.first
    second = {cell: probe(target, cell, choosing, count, rounds[1]) for cell in left}
    left = best_of(second, FINALISTS)
    if target.healed is not None:
        left = [*left, *(cell._replace(healed=True) for cell in left)]
    last = {cell: probe(target, cell, choosing, setting.draws, rounds[2]) for cell in left}
    final = {cell: probe(target, cell, split, setting.draws, reported) for cell in left}
    (chosen,) = best_of(last, 1)
    mark = int(last[chosen].mean(axis=0).argmax())
    stopped = [
        max(left, key=lambda cell, place=place: last[cell][:, place].mean())  # type: ignore[misc]
        for place in range(len(setting.marks))
    ]
    return Attacked(
        name=target.name,
        seed=target.seed,
        split=split,
        shots=shots,
        examples=setting.ways * shots,
        cell=chosen,
        steps=setting.marks[mark],
        values=final[chosen][:, mark].tolist(),
        curve=[float(final[cell][:, place].mean()) for place, cell in enumerate(stopped)],
        upper=max(float(rows.mean(axis=0).max()) for rows in final.values()),
        weak=probe(target, Cell(*WEAK), split, setting.draws, reported)[:, -1].tolist(),
        by_rate=by_rate,
    )


def best_of(found: Mapping[Cell, np.ndarray], count: int) -> list[Cell]:
    """The attacks with the highest mean accuracy after their best number of steps."""
    scores = {cell: float(rows.mean(axis=0).max()) for cell, rows in found.items()}
    return sorted(scores, key=lambda cell: -scores[cell])[:count]
