"""The arithmetic of the scaling model against counts made otherwise."""

import math
from pathlib import Path

import jax
import pytest

from benchmarks import scaling
from benchmarks.flops import count
from benchmarks.implementations.jaxmeta import make_arguments, make_model, make_objective
from benchmarks.problem import Problem, make_data
from benchmarks.scaling import Level
from jaxmeta.gradients import estimate


def test_conv4_is_what_is_traced():
    problem = Problem(tasks=1, filters=8, inner_steps=2, shots=2, queries=3, ways=3)
    model = scaling.conv4(8, problem.image_size, problem.ways)
    data = make_data(problem)
    arguments = jax.eval_shape(lambda: make_arguments(problem, data))
    params, state, *_ = arguments
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == model.parameters
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == model.state

    objective = make_objective(problem, make_model(problem), "reverse")
    traced = jax.make_jaxpr(estimate(objective, chunk=1))(*arguments)
    assert count(traced) == scaling.task_flops(model, 3 * 2, 3 * 3, 2)
    reduced = sum(math.prod(value.shape) for value in traced.out_avals)
    assert 4 * reduced == scaling.reduced_bytes(model, 2)


def test_resnet12_by_hand():
    model = scaling.resnet12((1, 1, 1, 1), image_size=8, ways=2)
    first, other = 27 + 9 + 9 + 3, 9 + 9 + 9 + 1
    assert model.parameters == first + 3 * other + 4 * 4 * 2 + 2 + 2
    assert model.state == 4 * 4 * 2
    assert model.forward == 2 * (first * 64 + other * (16 + 4 + 1) + 2)
    assert model.first == 2 * (27 + 3) * 64


def test_a_ring():
    assert scaling.all_reduce_seconds(600.0, [Level(4, 30.0, 6, 0.5)]) == 2 * 3 / 4 * 20 + 3


def test_levels_move_no_more_than_one_ring():
    levels = [Level(2, 10.0, 0, 0.0), Level(4, 10.0, 0, 0.0), Level(8, 10.0, 0, 0.0)]
    one = scaling.all_reduce_seconds(1e3, [Level(64, 10.0, 0, 0.0)])
    assert scaling.all_reduce_seconds(1e3, levels) == pytest.approx(one)


@pytest.mark.parametrize("system", scaling.SYSTEMS, ids=lambda system: system.name)
@pytest.mark.parametrize("chips", scaling.CHIPS)
def test_levels_hold_all_chips(system: scaling.System, chips: int):
    assert math.prod(level.size for level in system.levels(chips)) == chips


def test_the_least_tasks_are_just_enough():
    tasks = scaling.least_tasks(task_seconds=0.7, reduce_seconds=5.0)
    assert scaling.efficiency(0.7, tasks, 5.0) >= scaling.EFFICIENCY
    assert scaling.efficiency(0.7, tasks - 1, 5.0) < scaling.EFFICIENCY


def test_the_documentation_shows_these_figures():
    text = (Path(__file__).parents[2] / "docs/scaling/model.md").read_text()
    for part in scaling.page().split("\n\n"):
        assert part in text
