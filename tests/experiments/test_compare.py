"""Every method's config, and the comparison of methods."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import report, same_episodes
from experiments.configs import cifar_fs, fewrel, methods, omniglot, pretraining
from jaxmeta.runs import EVERYTHING, Diverged, build, tasks, workdir
from jaxmeta.runs.config import (
    build_learner,
    build_objective,
    complete,
    evaluation_of,
    learner_spec,
)
from jaxmeta.types import Batch, Carried, Episode, Learner, Source
from tests.quick import QUICK

ROOT = Path(__file__).parents[2]
EXAMPLES = {
    omniglot: jax.ShapeDtypeStruct((28, 28, 1), jnp.float32),
    cifar_fs: jax.ShapeDtypeStruct((32, 32, 3), jnp.float32),
    fewrel: {
        "tokens": jax.ShapeDtypeStruct((40,), jnp.int32),
        "words": jax.ShapeDtypeStruct((40, 50), jnp.float32),
        "head": jax.ShapeDtypeStruct((), jnp.int32),
        "tail": jax.ShapeDtypeStruct((), jnp.int32),
    },
}
OF_TEXTS = [
    *("mean_of_words", "unweighted_mean_of_words", "random_transformer", "masked_words"),
]
OF_BOTH = ["pretrained", "random"]
OF_IMAGES = [name for name in pretraining.PRETRAINED if name not in OF_TEXTS + OF_BOTH]
CONFIGS = [
    *((data, name) for data in (omniglot, cifar_fs) for name in methods.TRAINED),
    *((data, name) for data in (omniglot, cifar_fs) for name in OF_IMAGES + OF_BOTH),
    # Relation networks compare maps, which sentences have none of.
    *((fewrel, name) for name in methods.TRAINED if name != "relation"),
    *((fewrel, name) for name in OF_TEXTS + OF_BOTH),
]


def shapes(protocol: dict, example: object) -> Episode | Batch:
    """Of a training task, or an episode, of a protocol."""

    def batch(n: int):
        x = jax.tree.map(lambda leaf: leaf.update(shape=(n, *leaf.shape)), example)
        return x, jax.ShapeDtypeStruct((n,), jnp.int32), jax.ShapeDtypeStruct((n,), jnp.float32)

    if "batches" in protocol:
        return Batch(*batch(protocol["batches"]))
    counts = (protocol["ways"] * protocol[name] for name in ("shots", "queries"))
    return Episode(*(Batch(*batch(n)) for n in counts))


@pytest.mark.parametrize(
    ("data", "method"),
    CONFIGS,
    ids=[f"{method}-{data.__name__.rpartition('.')[2]}" for data, method in CONFIGS],
)
def test_every_config_can_be_trained(data, method):
    """Traced only: what it names exists, takes these arguments, and its shapes go together."""
    config = tasks.with_classes(complete(data.get_config(method)), Source((), None, classes=64))
    objective = build_objective(config)  # trusting nobody: all of it is in the wheel
    task, key = shapes(config["sample"], EXAMPLES[data]), jax.random.key(0)
    params, state = jax.eval_shape(objective.init, key, task)
    jax.eval_shape(build(config["optimizer"]).init, params)
    carry = ()
    if objective.carry is not None:
        carry = jax.eval_shape(objective.carry, params, state, task, key)
        task = Carried(task, carry)
    loss, report = jax.eval_shape(objective.loss, params, state, task, key)
    assert loss.shape == ()
    assert jax.tree.structure(report.carry) == jax.tree.structure(carry)
    updated = jax.eval_shape(objective.update, state, params, report.statistics)
    assert jax.tree.structure(updated) == jax.tree.structure(state)
    others = pretraining.TRANSFERRED if method in ("pretrained", "simclr") else {}
    state = state[part] if (part := evaluation_of(config)["state"]) else state
    mode = data.DATA.normalization
    specs = [spec.to_dict() | {"ways": 5, "normalization": mode} for spec in others.values()]
    for spec in [learner_spec(config), *specs]:
        learner = build_learner(config, spec)
        episode = shapes(config, EXAMPLES[data])
        assert answers(learner, params, state, episode).shape == (75, 5)


@pytest.mark.parametrize(
    ("data", "mode"), [(omniglot, "transductive"), (cifar_fs, "running")], ids=["omniglot", "cifar"]
)
def test_only_transferred_features_are_normalized_as_the_data_say(data, mode):
    protocol = same_episodes.Protocol(3, [1], 15, 2, 50, 0, None)
    for name in pretraining.TRANSFERRED:
        asked = same_episodes.question(name, data.DATA, protocol)
        assert (asked["spec"]["normalization"], asked["spec"]["ways"]) == (mode, 3)
        (evaluation,) = asked["config"]["evaluations"].values()
        assert evaluation["learner"]["normalization"] == mode
    assert same_episodes.question("maml", data.DATA, protocol)["spec"]["normalization"] == (
        "transductive"
    )


def test_the_classifier_descends_with_momentum_and_decay():
    config = complete(omniglot.get_config("pretrained"))
    decay, descent = config["optimizer"]["args"]
    assert descent["learning_rate"]["decay_steps"] == config["steps"]
    given = {**decay, "weight_decay": 0.5}, {**descent, "learning_rate": 0.1}
    optimizer = build({**config["optimizer"], "args": given})
    # Of the first row, a kernel, and the second, a bias, only the kernel decays.
    params, kernel = np.array([[1.0, -2.0], [3.0, 4.0]]), np.array([[1.0], [0.0]])
    gradients = np.array([[[0.5, 0.25], [1.0, -1.0]], [[0.0, 2.0], [1.0, 1.0]]])
    trace = np.zeros((2, 2))

    def tree(rows):
        return {"kernel": jnp.array(rows[:1]), "bias": jnp.array(rows[1])}

    mine, state = tree(params), optimizer.init(tree(params))
    for gradient in gradients:
        updates, state = optimizer.update(tree(gradient), state, mine)
        mine = optax.apply_updates(mine, updates)
        decayed = gradient + 0.5 * kernel * params
        trace = decayed + 0.9 * trace
        params = params - 0.1 * (decayed + 0.9 * trace)
    assert mine["kernel"][0] == pytest.approx(params[0])
    assert mine["bias"] == pytest.approx(params[1])


def answers(learner: Learner, params, state, task: Episode):
    def solve(params, state, task):
        adapted, _ = learner.adapt(params, state, task.support, jax.random.key(0))
        return learner.predict(params, state, adapted, task.query.x, task.query.mask)[0]

    return jax.eval_shape(solve, params, state, task)


def test_a_method_that_there_is_not_is_told():
    with pytest.raises(ValueError, match="There is no method 'mamml': choose siamese, "):
        omniglot.get_config("mamml")
    with pytest.raises(ValueError, match="There is no method 'mamml': the near ones are maml"):
        same_episodes.chosen(["mamml"])
    with pytest.raises(ValueError, match="--data is 'mnist', but no DATA can be had"):
        same_episodes.load_data("mnist")
    with pytest.raises(ValueError, match=r"'simclr' compares views, and jaxmeta\.data\.fewrel has"):
        fewrel.get_config("simclr")
    with pytest.raises(ValueError, match="'nearest_mean' transfers what the method 'pretrained'"):
        omniglot.get_config("nearest_mean")
    assert same_episodes.chosen(["ridge", "all"])[0] == "siamese"
    assert same_episodes.chosen(["ridge", "maml", "ridge"]) == ["ridge", "maml"]
    assert not set(pretraining.PRETRAINED) & set(same_episodes.chosen(["all"]))
    assert same_episodes.chosen(["byol", "simclr+nearest_mean"]) == ["byol", "simclr+nearest_mean"]
    with pytest.raises(ValueError, match=r"There is no method 'simclr\+ridge': .*simclr"):
        same_episodes.chosen(["simclr+ridge"])


@pytest.mark.parametrize("shots", ["x", "0", "", "1,-5"])
def test_wrong_shots_are_told(shots):
    with pytest.raises(ValueError, match=f"--shots is '{shots}': give positive integers"):
        same_episodes.chosen_shots(shots.split(","))
    assert same_episodes.chosen_shots(["5", "1", "5"]) == [1, 5]


def test_the_reference_is_one_of_the_methods():
    assert same_episodes.chosen_reference(["ridge", "prototypical"], None) == "prototypical"
    assert same_episodes.chosen_reference(["ridge", "maml"], None) == "ridge"
    with pytest.raises(ValueError, match="--reference is 'maml', which is not compared"):
        same_episodes.chosen_reference(["ridge"], "maml")


def result(name: str, values: list[float]) -> dict:
    mean = float(np.mean(values))
    figure = {"mean": mean, "ci95": 0.01, "milliseconds_a_task": 2.0}
    return {
        "name": name,
        "values": {"1": values},
        "figures": {"1": figure},
        "protocol": {"shots": [1]},
        "normalization": "running",
        "steps": 10,
        "train_seconds": 3.0,
        "training_mib": 4.0,
        "parameters": 5,
    }


def test_differences_are_paired():
    results = [result("a", [0.5, 0.7, 0.9]), result("b", [0.4, 0.6, 0.8])]
    apart = report.differences(results, "a")
    assert apart["b"]["1"]["mean"] == pytest.approx(-0.1)
    # The two differ by the same on every episode: the difference is sure, though neither is.
    assert apart["b"]["1"]["ci95"] == pytest.approx(0, abs=1e-9)
    assert report.differences(results, "c") == {}
    lines = report.table(results, apart, "a").splitlines()
    assert lines[2].startswith("| `a` | 70.0 ± 1.0 |  | running | 10 |")
    assert lines[3].startswith("| `b` | 60.0 ± 1.0 | -10.0 ± 0.0 |")


def test_what_diverges_is_left_out_and_told(tmp_path, monkeypatch):
    """The last of all as well, and once for all that share a run."""
    asked = []

    def compared(folder, name, data, protocol):
        asked.append(name)
        if name != "ridge":
            raise Diverged(f"{name} is not finite")
        return {**result(name, [0.5, 0.7]), "run": name}

    monkeypatch.setattr(same_episodes, "check_runs", lambda *arguments: None)
    monkeypatch.setattr(same_episodes, "compare", compared)
    names = ["nearest_mean", "ridge", "fine_tuning_whole", "maml"]
    protocol = same_episodes.Protocol(5, [1], 15, 2, None, 0, None)
    results = same_episodes.compare_all(tmp_path, names, omniglot.DATA, protocol, "ridge")
    assert [each["name"] for each in results] == ["ridge"]
    assert asked == ["nearest_mean", "ridge", "maml"]
    told = {
        "nearest_mean": "nearest_mean is not finite",
        "fine_tuning_whole": "nearest_mean is not finite",
        "maml": "maml is not finite",
    }
    written = json.loads((tmp_path / "comparison.json").read_text())
    assert written["diverged"] == told
    text = (tmp_path / "comparison.md").read_text()
    assert all(f"`{name}` diverged: {why}" in text for name, why in told.items())
    assert text.count("| `") == 1


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "experiments.compare", "--data=glyphs"),
            *(f"--workdir={folder}", "--steps=4", "--episodes=4", *options),
        ],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICK},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def by_hand(run: Path, changes: dict, shots: int) -> list[float]:
    """What a learner answers right of the test episodes, one after the other."""
    config = workdir.read_config(run)
    source = build(config["data"], data_sets=True)["test"]
    sample = jax.jit(source.episodes(ways=3, shots=shots, queries=15))
    learner, params, state = workdir.restore(run, trust=EVERYTHING, **changes)
    key, values = tasks.evaluation_key(config, "test"), []

    @jax.jit
    def answer(task, key):
        adapted, _ = learner.adapt(params, state, task.support, key)
        return learner.predict(params, state, adapted, task.query.x, task.query.mask)[0]

    for index in range(4):
        sample_key, adapt_key = jax.random.split(jax.random.fold_in(key, index))
        task = sample(source.data, sample_key)
        right = jnp.argmax(answer(task, adapt_key), axis=-1) == task.query.y
        values.append(float(jnp.mean(right)))
    return values


@pytest.mark.slow
def test_methods_are_compared_on_the_same_episodes_and_a_killed_run_goes_on(tmp_path: Path):
    learners = "nearest_mean,ridge"
    options = (f"--learners={learners}", "--reference=ridge", "--ways=3", "--shots=2,1")
    killed = start(tmp_path, *options)
    began = time.monotonic()
    while not (tmp_path / "results" / "nearest_mean.json").exists():
        assert killed.poll() is None, killed.stderr.read()
        assert time.monotonic() - began < 600
        time.sleep(0.1)
    killed.kill()
    killed.communicate()
    first = (tmp_path / "results" / "nearest_mean.json").stat().st_mtime_ns
    (tmp_path / "results" / "ridge.json").write_text("broken")
    code, out, err = ended(start(tmp_path, *options))
    assert code == 0, err
    assert "nearest_mean:" not in err
    assert (tmp_path / "results" / "nearest_mean.json").stat().st_mtime_ns == first
    assert sum(line.startswith("| `") for line in out.splitlines()) == 2
    written = json.loads((tmp_path / "comparison.json").read_text())["methods"]
    assert [method["name"] for method in written] == learners.split(",")
    assert [method["run"] for method in written] == ["pretrained", "ridge"]
    for picture in ("comparison.png", "learning.png"):
        assert (tmp_path / picture).stat().st_size > 10_000
    for method in written:
        name, run = method["name"], tmp_path / method["run"]
        values = json.loads((tmp_path / "results" / f"{name}.json").read_text())["values"]
        changes = {**pretraining.TRANSFERRED.get(name, {})} | {"ways": 3}
        for shots in (1, 2):
            np.testing.assert_allclose(values[str(shots)], by_hand(run, changes, shots), atol=1e-6)
        params = workdir.restore(run).params
        assert method["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(params)) > 0
        assert method["training_mib"] > 0.1
        assert all(method["figures"][k]["milliseconds_a_task"] > 0 for k in ("1", "2"))


def test_a_run_that_cannot_be_is_told_before_any_is_trained(tmp_path: Path, monkeypatch):
    checked, trained = [], []

    def prepare(config, folder, data_dir):
        checked.append(folder.name)
        if folder.name == "pretrained":
            raise ValueError("too few classes")

    monkeypatch.setattr(same_episodes, "prepare", prepare)
    monkeypatch.setattr(same_episodes, "compare", lambda *arguments: trained.append(arguments))
    protocol = same_episodes.Protocol(5, [1], 15, 2, None, 0, None)
    names = ["ridge", "nearest_mean", "fine_tuning_whole"]
    with pytest.raises(ValueError, match="too few classes"):
        same_episodes.compare_all(tmp_path, names, omniglot.DATA, protocol, "ridge")
    assert checked == ["ridge", "pretrained"]
    assert not trained
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_mistake_ends_in_one_sentence(tmp_path: Path):
    code, _, err = ended(start(tmp_path, "--learners=rigde"))
    assert code == 1
    assert err.strip().splitlines()[-1].startswith("Error: There is no method 'rigde'")
    code, _, err = ended(start(tmp_path, "--learners=ridge", "--queries=20"))
    assert code == 1
    assert "Error: No such episodes of the test split" in err
    assert not (tmp_path / "ridge").exists()
