"""Judging the features of a run: the command, its figures, and its pictures."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.axes import Axes
from ml_collections import ConfigDict
from PIL import Image

from experiments import judging, plots
from experiments.configs import glyphs, pretraining
from jaxmeta import probes
from jaxmeta.data import array_source, class_source, decode_inputs, decode_rotated_image
from jaxmeta.runs import CollapseWarning, JsonLines, prepare, train, workdir
from jaxmeta.runs.run import default_writers
from tests.experiments.conftest import finish, start

CLASSES, EXAMPLES = 8, 10
ASKED = judging.Protocol(
    split="test",
    learners=["nearest_mean"],
    shots=[1],
    episodes=8,
    statistics="averaged",
    checkpoint="best",
    neighbors=5,
    seed=0,
    data_dir=None,
    trust=(),
)


def small() -> ConfigDict:
    """SimCLR on a few characters, for a few steps."""
    config = glyphs.get_config("simclr")
    config.data.update(classes=(12, CLASSES, CLASSES), examples=EXAMPLES, size=14)
    config.model.filters = 8
    config.objective.augment = ConfigDict({"make": "jaxmeta.data.shift", "pixels": 2})
    config.objective.objective.projector = ConfigDict(pretraining.head(8, 16))
    config.sample.batches, config.meta_batch = 16, 1
    config.steps, config.log_every, config.evaluation.every = 4, 2, 4
    config.evaluation.validation_episodes = config.evaluation.episodes = 4
    config.ways, config.queries = 3, 4
    return config


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probe") / "run"
    train(prepare(small(), folder), writers=[])
    return folder


def prepared(*folders: Path, **fields: object) -> judging.Prepared:
    return judging.prepare([*map(str, folders)], ASKED._replace(**fields))


def drawn(path: Path) -> np.ndarray:
    """The pixels of a picture, which is not blank."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L"), np.float32)
    assert min(pixels.shape) > 200
    assert pixels.std() > 10
    return pixels


@pytest.mark.slow
def test_the_command_judges_runs_side_by_side(trained: Path, tmp_path: Path) -> None:
    other = shutil.copytree(trained, tmp_path / "other")
    options = ("--shots=2", "--episodes=8", "--neighbors=5", "--learners=nearest_mean")
    process = start("probe", f"--workdirs={trained},{other}", *options)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    head, _, *lines = out.splitlines()
    assert len(lines) == 2
    assert "5 neighbors" in head
    assert "2-shot" in head
    result, same = (json.loads((folder / "probe.json").read_text()) for folder in (trained, other))
    statistics, parts = result["statistics"], result["parts"]
    assert statistics["used"] in ("averaged", "clean")
    assert statistics["validation"]["shots"] == 5
    means = [statistics["validation"][name]["mean"] for name in ("averaged", "clean")]
    assert statistics["validation"][statistics["used"]]["mean"] == max(means)
    assert statistics["clean_images"] == 12 * EXAMPLES
    assert result["features"] == {"images": 80, "dimensions": 8, "first_variant_of": 1}
    assert parts == {"seed": 0, "classes": 8, "fit": 48, "held_out": 16, "judged": 16}
    assert (result["step"], result["split"]) == (4, "test")
    assert result["probes"].keys() == {"ridge", "logistic", "nearest_neighbors"}
    assert all(0 <= probe["accuracy"]["mean"] <= 1 for probe in result["probes"].values())
    assert 1 < result["diagnostics"]["rankme"] < 8 + 1e-3
    assert 0 < result["diagnostics"]["spread"] <= 1
    few_shot = same["few_shot"]
    assert (few_shot["ways"], few_shot["queries"], few_shot["episodes"]) == (3, 4, 8)
    assert few_shot["reference"] == str(trained)
    for figure in few_shot["accuracy"]["nearest_mean"].values():
        assert 1 / 3 < figure["mean"] <= 1
        assert figure["minus_reference"] == {"mean": 0, "ci95": 0}
    row = few_shot["accuracy"]["nearest_mean"]["2"]
    assert f"| {100 * row['mean']:.1f} ± {100 * row['ci95']:.1f} | +0.0 ± 0.0 |" in lines[1]
    for name in ("features.png", "views.png"):
        drawn(trained / name)


@pytest.mark.slow
def test_statistics_differ_and_the_better_ones_are_taken(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for name in ("averaged", "clean"):
        given = prepared(trained, statistics=name)
        found[name] = judging.judge.normalizing(given.runs[0], given)
        assert found[name][0]["used"] == name
    means = {name: np.asarray(state["block0"].mean) for name, (_, state) in found.items()}
    assert not np.allclose(*means.values())
    given = prepared(trained, statistics="best")
    for better in means:

        def solve(
            run: judging.Run, state: dict, *given: object, better: str = better
        ) -> np.ndarray:
            right = np.array_equal(state["block0"].mean, means[better])
            return np.array([0.5, 0.7]) + 0.2 * right

        monkeypatch.setattr(judging.judge, "solve", solve)
        facts, state = judging.judge.normalizing(given.runs[0], given)
        assert facts["used"] == better
        assert sorted(facts["validation"][name]["mean"] for name in means) == [
            pytest.approx(0.6),
            pytest.approx(0.8),
        ]
        np.testing.assert_array_equal(state["block0"].mean, means[better])


@pytest.mark.slow
def test_a_run_without_steps_has_no_averages(tmp_path: Path) -> None:
    """Whatever is asked for, clean statistics normalize its features, and the table says so."""
    config = small()
    config.steps, config.optimizer = 0, ConfigDict({"make": "optax.identity"})
    train(prepare(config, tmp_path / "untrained"), writers=[])
    given = prepared(tmp_path / "untrained", statistics="clean")
    (run,) = given.runs
    clean, expected = judging.judge.normalizing(run, given)
    assert clean == {"used": "clean", "asked": "clean", "clean_images": 12 * EXAMPLES}
    assert not np.allclose(expected["block0"].mean, run.state["block0"].mean)
    for asked in ("averaged", "best"):
        given = prepared(tmp_path / "untrained", statistics=asked)
        facts, state = judging.judge.normalizing(run, given)
        assert facts == {**clean, "asked": asked, "because": "step 0 has no averages"}
        np.testing.assert_array_equal(state["block0"].mean, expected["block0"].mean)
    row = judging.table(judging.judge_all(given)).splitlines()[2]
    assert "| 0 | clean (step 0 has no averages) |" in row


@pytest.mark.slow
def test_runs_of_other_models_meet_the_same_tasks(trained: Path, tmp_path: Path) -> None:
    """One without statistics, whose evaluation has other queries and another seed."""
    config = small()
    config.model = ConfigDict({"make": "jaxmeta.nn.mlp", "outputs": 6, "hidden": (8,)})
    config.evaluation.seed, config.queries = 3, 2
    train(prepare(config, tmp_path / "mlp"), writers=[])
    given = prepared(
        trained, tmp_path / "mlp", learners=[*pretraining.TRANSFERRED], statistics="best"
    )
    first, second = judging.judge_all(given)
    assert second["statistics"] == {"used": None, "asked": "best"}
    assert second["features"]["dimensions"] == 6
    assert second["few_shot"]["queries"] == first["few_shot"]["queries"] == 4
    assert first["few_shot"]["accuracy"].keys() == pretraining.TRANSFERRED.keys()
    apart = second["values"]["nearest_mean", 1] - first["values"]["nearest_mean", 1]
    compared = second["few_shot"]["accuracy"]["nearest_mean"]["1"]["minus_reference"]
    assert compared["mean"] == pytest.approx(apart.mean())
    assert "| none |" in judging.table([first, second]).splitlines()[3]


def test_differences_are_paired() -> None:
    def result(name: str, values: list[float]) -> dict:
        few_shot = {"accuracy": {"ridge": {"1": {"mean": 0.5, "ci95": 0.1}}}}
        return {"workdir": name, "few_shot": few_shot, "values": {("ridge", 1): np.array(values)}}

    first, second = result("a", [0.5, 0.7, 0.9]), result("b", [0.4, 0.6, 0.8])
    judging.judge.add_differences(second, first)
    compared = second["few_shot"]["accuracy"]["ridge"]["1"]["minus_reference"]
    assert compared["mean"] == pytest.approx(-0.1)
    # The two differ by the same on every task: the difference is sure, though neither is.
    assert compared["ci95"] == pytest.approx(0, abs=1e-9)


def test_parts_are_of_every_class_and_apart() -> None:
    y = np.repeat([0, 1, 2], [3, 20, 10])
    parts = judging.features.divided(y, seed=0)
    assert sorted(np.concatenate(parts)) == [*range(33)]
    assert [np.bincount(y[rows]).tolist() for rows in parts] == [[1, 12, 6], [1, 4, 2], [1, 4, 2]]
    assert judging.features.divided(y, seed=1).fit.tolist() != parts.fit.tolist()
    with pytest.raises(ValueError, match="has 2 images, which cannot be divided into 3 parts"):
        judging.features.divided(y[1:], seed=0)


def test_probes_tell_apart_what_is_apart() -> None:
    random, y = np.random.default_rng(0), np.repeat(np.arange(4), 20)
    z = (np.eye(4)[y] + 0.1 * random.normal(size=(80, 4))).astype(np.float32)
    found = judging.features.probed(z, y, judging.features.divided(y, 0), neighbors=5)
    assert [probe["accuracy"]["mean"] for probe in found.values()] == [1, 1, 1]
    random.shuffle(y)
    blind = judging.features.probed(z, y, judging.features.divided(y, 0), neighbors=5)
    assert max(probe["accuracy"]["mean"] for probe in blind.values()) < 0.8
    collapsed = judging.features.diagnosed(jnp.ones((6, 3)))
    assert collapsed["alpha_req"] is None
    assert collapsed["spread"] == pytest.approx(0, abs=1e-6)


def test_examples_are_decoded_as_the_source_does() -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 6, 6, 1), np.uint8)
    given = (images, [6, 6], ["ant", "bee"])
    source = class_source(*given, decode=decode_rotated_image, variants=4)
    assert np.array_equal(judging.runs.examples(source).x, decode_inputs(images))
    assert judging.runs.variants_of(source) == 4
    inverted = class_source(*given, decode=lambda image, variant: 1 - decode_inputs(image))
    with pytest.raises(ValueError, match="decode their examples in a way of their own"):
        judging.runs.examples(inverted)


def test_statistics_are_estimated_from_images_of_all_classes() -> None:
    source = array_source(np.arange(100.0)[:, None], np.repeat([0, 1, 2], [10, 30, 60]))
    x, y, _ = probes.all_examples(judging.runs.thinned(source, 20))
    assert np.bincount(y).tolist() == [2, 6, 12]
    assert (x[0], x[-1]) == (0, 99)
    assert probes.all_examples(judging.runs.thinned(source, 200)).x.shape == (100, 1)


@pytest.mark.slow
def test_mistakes_are_told(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--workdirs is needed"):
        prepared()
    with pytest.raises(ValueError, match="holds no run"):
        prepared(tmp_path)
    with pytest.raises(
        ValueError, match=r"There is no learner 'nearest' of features: .*nearest_me"
    ):
        judging.chosen(["nearest"])
    with pytest.raises(ValueError, match="--neighbors is 49 and probes are fitted to 48 images"):
        prepared(trained, neighbors=49)
    with pytest.raises(ValueError, match=r"No such episodes of the test split: .*7 shots"):
        prepared(trained, shots=[7])
    config = json.loads((trained / "config.json").read_text())

    def changed(name: str, **fields: object) -> Path:
        folder = shutil.copytree(trained, tmp_path / name)
        (folder / "config.json").write_text(json.dumps({**config, **fields}))
        return folder

    other = changed("other", data={**config["data"], "seed": 1})
    with pytest.raises(ValueError, match=f"'{other}' has another test split than '{trained}'"):
        prepared(trained, other)
    many = changed("many", queries=6)
    with pytest.raises(ValueError, match=r"--statistics=best chooses by 5 shots.*averaged or cl"):
        prepared(many, statistics="best")
    evaluations = {"nearest_mean": {**config["evaluations"]["nearest_mean"], "state": "projector"}}
    without = changed("without", evaluations=evaluations)
    with pytest.raises(ValueError, match=r"is given no model .*judge a run whose evaluations"):
        prepared(without)


@pytest.mark.slow
def test_a_mistake_ends_in_one_sentence(undisturbed: Path) -> None:
    said = {
        "--workdirs=nowhere": "Error: 'nowhere' holds no run",
        f"--workdirs={undisturbed}": "Error: The data of the source are a tuple without examples",
        "--workdirs=nowhere --learners=knn": "Error: There is no learner 'knn' of features",
        "--workdirs=nowhere --shots=none": "Error: --shots is 'none'",
    }
    for options, sentence in said.items():
        status, errors = finish(start("probe", *options.split()))
        assert status == 1
        (line,) = errors.splitlines()
        assert line.startswith(sentence)


def redrawn(folder: Path, *rows: dict) -> list[Axes]:
    """The panels of the curve of a run that logged these rows."""
    lines, axes = JsonLines(folder / "metrics.jsonl"), []
    lines.resume(0)
    for step, row in enumerate(rows, start=1):
        lines.write(step, row)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots.curves, "save", lambda figure, path: axes.extend(figure.axes))
        plots.curve(folder)
    plots.drawing.plt.close("all")
    return axes


@pytest.mark.slow
def test_the_curve_of_losses_below_zero_and_of_views(trained: Path, tmp_path: Path) -> None:
    shutil.copy(trained / "config.json", tmp_path)
    rows = {"train/loss": 2.0, "train/spread": 0.5}, {"train/loss": -1.0, "train/spread": 0.4}
    left, _, third = redrawn(tmp_path, *rows)
    assert left.get_yscale() == "linear"
    (line,) = third.lines
    assert line.get_ydata().tolist() == [0.5, 0.4]
    (tmp_path / "metrics.jsonl").unlink()
    left, _ = redrawn(tmp_path, {"train/loss": 2.0}, {"train/loss": 1.0})
    assert left.get_yscale() == "log"


def with_objective(folder: Path, **objective: object) -> Path:
    """A folder whose config has another objective."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "objective": objective}))
    return folder


@pytest.mark.slow
def test_the_views_of_other_objectives(trained: Path, tmp_path: Path) -> None:
    """Of a sum, of which a part is over changed images, and of one that changes nothing."""
    shutil.copy(trained / "config.json", tmp_path)
    images = np.random.default_rng(0).uniform(size=(8, 9, 9, 3)).astype(np.float32)
    source = array_source(images, np.arange(8) % 2)
    plots.views(with_objective(tmp_path, make="jaxmeta.objectives.episodic"), source)
    assert not (tmp_path / "views.png").exists()
    changed = {
        "make": "jaxmeta.objectives.augmented",
        "objective": {"make": "jaxmeta.objectives.episodic"},
        "augment": {"make": "jaxmeta.data.shift", "pixels": 1},
        "support": {"function": "jaxmeta.data.unchanged"},
    }
    parts = {"plain": {"make": "jaxmeta.objectives.episodic"}, "changed": changed}
    plots.views(with_objective(tmp_path, make="jaxmeta.objectives.added", objectives=parts), source)
    drawn(tmp_path / "views.png")
    changed["augment"] = {"make": "os.system", "command": "true"}
    with pytest.raises(ValueError, match=r"'os.system' is in the package 'os', which is not trust"):
        plots.views(with_objective(tmp_path, **changed), source)


def test_features_of_other_inputs_than_images_and_a_single_one(tmp_path: Path) -> None:
    z, y = np.linspace(-1, 1, 12, dtype=np.float32)[:, None], np.repeat([0, 3], 6)
    plots.features(tmp_path, z, y, {"tokens": np.zeros((12, 5), np.int32)})
    drawn(tmp_path / "features.png")


@pytest.mark.slow
def test_a_collapse_is_told_once(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = SimpleNamespace(folder=trained, config=workdir.read_config(trained))
    (writer,) = (each for each in default_writers(run) if isinstance(each, CollapseWarning))
    for step, metrics in enumerate(
        (
            {"train/loss": 0.02, "train/spread": 0.5},
            {"train/loss": 0.02},
            {"validation/spread": 0.02},
            {"train/loss": 0.02, "train/simsiam_spread": 0.02, "train/other_spread": 0.5},
            {"train/spread": 0.01},
        )
    ):
        writer.write(step, metrics)
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("The outputs have collapsed by step 3: their spread is 0.02 where 1 is")
