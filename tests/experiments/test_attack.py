"""Attacks on models: how the best is found, and what the table makes of it."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import attack_table, attacked_models, attacking, plots
from experiments.attacking import SCRATCH, Attacked, Cell, Setting, Target
from experiments.configs import resisting_linear
from jaxmeta.data import harmful_labels
from jaxmeta.keys import streams
from jaxmeta.learners import attacks
from jaxmeta.learners.attacks import RATES, tuning
from jaxmeta.losses import accuracy
from jaxmeta.nn import mlp
from jaxmeta.runs import prepare, train

MARKS = (1, 3)
GRID = ("means", "zeros, 16", "frozen")
RANDOM = np.random.default_rng(0)


def setting(draws=6):
    return Setting(dict.fromkeys(GRID), 2, 1, MARKS, 2, draws)


def is_reported(key):
    return bool(np.all(jax.random.key_data(key) == jax.random.key_data(streams(0).test)))


def probe_of(worth):
    """A probe whose accuracies are those of ``worth(cell, reported)``, for each mark."""

    def probe(target, cell, split, episodes, key):
        # The split of the episodes goes with their key.
        assert split == ("harmful" if is_reported(key) else "harmful_choosing")
        return np.tile(worth(cell, is_reported(key)), (episodes, 1))

    return probe


def search(probe, healed=None):
    target = Target("blocked", 0, {}, (), healed)
    return attacking.attacked(target, setting(), probe, "harmful", "harmful_choosing", 5)


def test_the_best_is_chosen_on_other_episodes_than_it_is_reported_on():
    best, lucky = Cell("frozen", "adam", 1e-2), Cell("zeros, 16", "sgd", 1.0)

    def worth(cell, reported):
        if cell == best:
            return [0.5, 0.7]
        if cell == lucky:  # only on the reported episodes
            return [0.9, 0.9] if reported else [0.4, 0.69]
        return [0.3, 0.2]

    found = search(probe_of(worth))
    assert (found.cell, found.steps) == (best, 3)
    assert found.values == [0.7] * 6
    assert found.upper == pytest.approx(0.9)
    np.testing.assert_allclose(found.curve, [0.5, 0.7])
    assert found.examples == 10
    np.testing.assert_allclose(found.weak, [0.2] * 6)
    assert np.shape(found.by_rate) == (len(RATES), 2)
    np.testing.assert_allclose(found.by_rate[RATES.index(1e-2)], [0.5, 0.7])


def test_a_model_is_also_attacked_after_healing():
    found = search(
        probe_of(lambda cell, reported: [0.8 if cell.healed else 0.6, 0.1]), healed=({}, ())
    )
    assert found.cell.healed
    assert found.steps == 1
    assert found.values == [0.8] * 6


def test_a_larger_grid_never_finds_less_on_the_same_episodes():
    rows = {Cell(name, "sgd", rate): RANDOM.uniform(size=(4, 2)) for name in GRID for rate in RATES}
    few = dict(list(rows.items())[:5])
    scores = [found[attacking.best_of(found, 1)[0]].mean(axis=0).max() for found in (few, rows)]
    assert scores[0] <= scores[1]


def test_marks_are_what_so_many_steps_lead_to():
    model, data = mlp(4, hidden=(4,)), harmful_labels(size=5)["harmful"]
    task = data.episodes(2, 3, 2)((), jax.random.key(0))
    params, state = model.init(jax.random.key(1), task.support.x)
    given = {"model": params, "hyper": tuning("momentum", 0.1)}, state
    judged = attacking.at_marks(attacks(model, 2, steps=5)["zeros"], [1, 3, 5])
    adapted, _ = judged.adapt(*given, task.support, jax.random.key(2))
    outputs, _ = judged.predict(*given, adapted, task.query.x, task.query.mask)
    for row, steps in zip(outputs, (1, 3, 5), strict=True):
        shorter = attacks(model, 2, steps=steps)["zeros"]
        adapted, _ = shorter.adapt(*given, task.support, jax.random.key(2))
        expected, _ = shorter.predict(*given, adapted, task.query.x, task.query.mask)
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-5)


def test_marks_and_their_accuracies():
    assert attacking.marks_of(1) == [1]
    assert attacking.marks_of(100) == [1, 3, 10, 30, 100]
    outputs = jnp.eye(2)[jnp.array([[0, 1], [1, 1]])]
    y, mask = jnp.array([0, 1]), jnp.ones(2)
    found = attacking.accuracies(outputs, y, mask)
    assert found.tolist() == [accuracy(row, y, mask).item() for row in outputs] == [1.0, 0.5]


def of(name, split, values, seed=0, weak=0.0):
    weak = (weak + np.asarray(values) - np.mean(values)).tolist()
    cell = Cell("means", "adam", 0.01)
    by_rate = RANDOM.uniform(size=(len(RATES), 2)).tolist()
    curve = [float(np.mean(values))] * 2
    return Attacked(name, seed, split, 5, 10, cell, 3, list(values), curve, 0.9, weak, by_rate)


def test_the_table_has_blocking_retention_and_trainability(tmp_path):
    noise = RANDOM.normal(scale=0.01, size=20)
    found = [
        of("plain", "harmful", 0.9 + noise, weak=0.8),
        of(SCRATCH, "harmful", 0.5 + noise, weak=0.4),
        of("blocked", "harmful", 0.6 + noise, weak=0.2),
        of("blocked", "harmful", 0.7 + noise, seed=1, weak=0.2),
        of("plain", "benign", 0.8 + noise),
        of(SCRATCH, "benign", 0.6 + noise),
        of("blocked", "benign", 0.75 + noise),
        of("blocked", "benign", 0.75 + noise, seed=1),
    ]
    desired = {("plain", 0): 0.8, ("blocked", 0): 0.76, ("blocked", 1): 0.78}
    rows = {row["model"]: row for row in attack_table.tabulated(found, "plain", desired)}
    blocked = rows["blocked"]
    assert blocked["blocking"]["mean"] == pytest.approx(np.mean([0.75, 0.5]))
    assert blocked["blocking_weak"]["mean"] == pytest.approx(1.5)
    assert blocked["trainability"]["mean"] == pytest.approx(0.75)
    assert blocked["retention"]["mean"] == pytest.approx(np.mean([0.95, 0.975]))
    assert blocked["seeds"] == [0, 1]
    assert rows["plain"]["blocking"]["mean"] == pytest.approx(0)
    assert rows[SCRATCH]["blocking"]["mean"] == pytest.approx(1)
    attack_table.write(tmp_path, found, [*rows.values()])
    plots.attacks(tmp_path, [*rows.values()], found, MARKS)
    assert "means; adam, 0.01, 3 steps" in (tmp_path / "attack.md").read_text()
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "attack_examples.png",
        "attack_steps.png",
        "attack_rates.png",
    }


def test_there_is_nothing_to_block_where_the_plain_model_has_no_head_start():
    values = 0.5 + RANDOM.normal(scale=0.1, size=20)
    found = [
        of("plain", "harmful", values),
        of(SCRATCH, "harmful", values + RANDOM.normal(scale=0.1, size=20)),
        of("blocked", "harmful", values),
    ]
    rows = attack_table.tabulated(found, "plain", {})
    assert all(row["blocking"] is None for row in rows)
    assert "undefined" in attack_table.table(rows)


def test_the_interval_of_a_ratio_is_that_of_its_delta_method():
    part, whole = RANDOM.normal(2, 0.3, size=400), RANDOM.normal(4, 0.3, size=400)
    found = attack_table._ratio(part, whole)
    slope = (part - found["mean"] * whole) / whole.mean()
    assert found["mean"] == pytest.approx(part.mean() / whole.mean())
    assert found["ci95"] == pytest.approx(1.96 * slope.std(ddof=1) / 20, rel=0.01)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attack")
    for defense in ("plain", "blocked"):
        config = resisting_linear.get_config(defense)
        config.steps = config.log_every = config.evaluation.every = 2
        config.model.outputs, config.model.hidden = 4, [4]
        train(prepare(config, folder / f"{defense}_0"), writers=[])
    return [folder / "plain_0", folder / "blocked_0"]


@pytest.mark.slow
def test_runs_and_rivals_are_attacked_and_finished_work_is_kept(runs, tmp_path):
    world = attacked_models.load(runs, None, ())
    assert [(run.name, run.seed) for run in world.runs] == [("plain", 0), ("blocked", 0)]
    targets, desired = attacked_models.targets_of(world, attacked_models.RIVALS, heal=2)
    names = ["plain", SCRATCH, "blocked", "plain + noise", "plain, reset"]
    assert [target.name for target in targets] == names
    assert set(desired) == {(name, 0) for name in names if name != SCRATCH}
    models = {target.name: target.params.get("model") for target in targets}
    # The noise of each parameter is as long as what the defense changed of it.
    apart = [
        jax.tree.map(
            lambda a, b: np.linalg.norm(np.asarray(a) - np.asarray(b)),
            models[name],
            models["plain"],
        )
        for name in ("blocked", "plain + noise")
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3), *apart)
    grid = attacks(world.model, 2, steps=3)
    few = Setting({name: grid[name] for name in ("means", "zeros, 16")}, 2, 5, MARKS, 2, 4)
    attacked_models.check_episodes(world, few, ["harmful"], [3])
    probe = attacking.prober(few, world.sources, 3)
    about = world.about
    found = [
        attacked_models.kept(target, few, probe, "harmful", 3, tmp_path, about)
        for target in targets[:3]
    ]
    assert all(len(each.values) == 4 for each in found)

    def never(*given):
        raise AssertionError

    again = attacked_models.kept(targets[2], few, never, "harmful", 3, tmp_path, about)
    assert json.dumps(again._asdict()) == json.dumps(found[2]._asdict())
    # Other episodes have other accuracies, and another seed of a key never the same.
    with pytest.raises(AssertionError):
        attacked_models.kept(
            targets[2], few._replace(draws=5), never, "harmful", 3, tmp_path, about
        )


def test_the_noise_is_that_of_the_first_defense_whatever_the_seeds(runs, tmp_path):
    other = tmp_path / "plain_1"
    shutil.copytree(runs[0], other)
    world = attacked_models.load([runs[0], other, runs[1]], None, ())
    targets, _ = attacked_models.targets_of(world, ["noise"], heal=0)
    models = {target.name: jax.tree.leaves(target.params) for target in targets}
    apart = [
        sum(
            np.sum((np.asarray(a) - np.asarray(b)) ** 2)
            for a, b in zip(one, models["plain"], strict=True)
        )
        for one in (models["blocked"], models["plain + noise"])
    ]
    assert apart[0] > 0
    np.testing.assert_allclose(apart[1], apart[0], rtol=1e-3)


def test_runs_that_cannot_be_told_apart_or_have_no_desired_part_are_refused(runs, tmp_path):
    for name, words in (
        ("other/plain_0", "is called plain with seed 0, which is taken: rename it"),
        ("scratch", "is called scratch with seed 0, which is taken: rename it"),
        ("plain_1", "All of the runs are seeds of 'plain'"),
    ):
        shutil.copytree(runs[0], tmp_path / name)
        with pytest.raises(ValueError, match=words):
            attacked_models.load([runs[0], tmp_path / name], None, ())
    config = json.loads((runs[0] / "config.json").read_text())
    config["objective"] = {"make": "jaxmeta.objectives.episodic"}
    (tmp_path / "plain_1" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"episodic, which has no desired part: give runs"):
        attacked_models.load([runs[0], tmp_path / "plain_1"], None, ())


def test_runs_of_other_worlds_are_refused(runs, tmp_path):
    config = resisting_linear.get_config("plain")
    config.steps = config.log_every = config.evaluation.every = 2
    config.model.outputs, config.model.hidden = 5, [4]
    train(prepare(config, tmp_path / "other"), writers=[])
    with pytest.raises(ValueError, match=r"differ in config\.model: give runs of one world"):
        attacked_models.load([runs[0], tmp_path / "other"], None, ())
