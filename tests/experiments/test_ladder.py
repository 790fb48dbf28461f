"""The ladder of hallucination: what its rungs share, and what its table says."""

import jax
import numpy as np
import pytest

from experiments import hallucinating, imagined, ladder_table, plots
from experiments.configs import hallucination
from experiments.ladder_table import Outcome
from jaxmeta.data import features, fewer_examples, shuffled_labels
from jaxmeta.runs import workdir

CLASSES, EACH, SIZE = {"train": 8, "valid": 6, "test": 6}, 40, 12


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    random, arrays = np.random.default_rng(0), {}
    for split, classes in CLASSES.items():
        y = np.repeat(np.arange(classes), EACH)
        means = np.abs(random.normal(size=(classes, SIZE)))
        arrays[f"{split}_x"] = np.abs(means[y] + 0.5 * random.normal(size=(y.size, SIZE)))
        arrays[f"{split}_y"] = y
    path = tmp_path_factory.mktemp("features") / "features.npz"
    np.savez(path, **arrays)
    return path


def test_real_examples_leave_the_queries_as_they_are(path):
    source = features(path)["test"]
    few, many = (
        source.episodes(ways=5, shots=shots, queries=15)(source.data, jax.random.key(3))
        for shots in (1, 5)
    )
    np.testing.assert_array_equal(few.query.x, many.query.x)
    np.testing.assert_array_equal(few.support.x, many.support.x[::5])


def test_fewer_classes_are_among_more_and_labels_are_exchanged(path):
    data = features(path)

    def rows(source):
        return {tuple(row) for row in np.asarray(source.data.examples).tolist()}

    few, more = (fewer_examples(data, classes, 10)["train"] for classes in (2, 5))
    assert (few.classes, more.classes) == (2, 5)
    assert few.data.counts.tolist() == [10, 10]
    assert rows(few) < rows(more) < rows(data["train"])
    other = shuffled_labels(data)
    assert rows(other["train"]) == rows(data["train"])
    assert other["train"].data.counts.tolist() == [EACH] * 8
    assert other["test"] is data["test"]
    agree = [
        np.isin(
            np.asarray(mine.data.examples[:EACH, 0]),
            np.asarray(data["train"].data.examples[:EACH, 0]),
        ).mean()
        for mine in (other["train"], data["train"])
    ]
    assert agree[0] < 0.5 < agree[1]


def outcomes(gain: float, seeds: int) -> list[Outcome]:
    random = np.random.default_rng(0)
    rows = []
    for seed in range(seeds):
        plain = random.uniform(0.3, 0.7, size=50)
        for rung, added in (("plain", 0.0), ("zero", 0.01), ("generator", gain), ("oracle", 0.2)):
            more = added * (1 + seed) if rung == "generator" else added
            for rate in (0.1, 0.2) if seed == 0 else (0.2,):
                # The rate that is not chosen would gain less.
                values = (plain + more - (0.1 if rate == 0.1 else 0.0)).tolist()
                rows.append(Outcome("prototypical", 1, rung, seed, rate, rate, values))
    return rows


def test_the_table_has_paired_gains_at_the_rate_that_validation_chose():
    rows = ladder_table.tabulated(outcomes(0.01, seeds=3))
    by_rung = {row["rung"]: row for row in rows}
    assert list(by_rung) == ["plain", "zero", "generator", "oracle"]
    generator = by_rung["generator"]
    assert generator["rate"] == 0.2
    np.testing.assert_allclose(generator["gain"]["mean"], 0.02)
    # All episodes gain the same, so that only seeds differ.
    np.testing.assert_allclose(generator["gain"]["ci95"], 4.302653 * 0.01 / 3**0.5, rtol=1e-5)
    assert generator["gain"]["above"] == 3
    np.testing.assert_allclose(generator["over_zero"]["mean"], 0.01)
    assert generator["over_larger"] is None
    np.testing.assert_allclose(generator["share"], 0.1)
    np.testing.assert_allclose(by_rung["oracle"]["share"], 1.0)
    text = ladder_table.table(rows)
    assert "+2.0 ± 2.5" in text
    assert "3 of 3" in text


def test_an_interval_is_over_seeds_and_episodes():
    random = np.random.default_rng(0)
    noise = random.normal(size=(2, 400))
    kept = {("plain", seed): np.zeros(400) for seed in range(2)}
    kept |= {("generator", seed): noise[seed] for seed in range(2)}
    found = ladder_table.paired(kept, "generator", "plain")
    means = noise.mean(axis=1)
    seeds = 12.7062 * means.std(ddof=1) / 2**0.5
    episodes = 1.96 * noise.mean(axis=0).std(ddof=1) / 20
    np.testing.assert_allclose(found["ci95"], np.hypot(seeds, episodes), rtol=1e-4)
    one = ladder_table.paired({k: v for k, v in kept.items() if k[1] == 0}, "generator", "plain")
    np.testing.assert_allclose(one["ci95"], 1.96 * noise[0].std(ddof=1) / 20)


def test_realism_of_real_examples_is_perfect_and_of_copies_none():
    random = np.random.default_rng(0)
    real, seeds = random.normal(size=(3, 400, 4)), random.normal(size=(3, 2, 4))
    same = random.normal(size=(3, 2, 400, 4))
    found = imagined.realism(imagined.Imagined(real, seeds, same))
    np.testing.assert_allclose(found["variance"], 1, atol=0.1)
    assert abs(found["energy_of_generator"]) < 0.05 < found["energy_of_copies"]
    copies = np.repeat(seeds[:, :, None], 5, axis=2)
    found = imagined.realism(imagined.Imagined(real, seeds, copies))
    assert found["variance"] < 1e-20
    np.testing.assert_allclose(found["energy_of_generator"], found["energy_of_copies"], atol=1e-6)


def test_errors():
    with pytest.raises(ValueError, match="generators"):
        hallucinating.rungs_of(["generators"], "prototypical")
    with pytest.raises(ValueError, match="few"):
        hallucinating.rungs_of(["all"], "prototypical", ["few"])
    with pytest.raises(ValueError, match="copies"):
        hallucination.configure(hallucination.Imagining(), "copies")
    with pytest.raises(ValueError, match="maml"):
        hallucination.configure(hallucination.Imagining(learner="maml"), "plain")


@pytest.mark.slow
@pytest.mark.parametrize("learner", ["logistic_regression", "prototypical", "ridge"])
def test_rungs_are_what_they_say_and_finished_work_is_kept(learner, path, tmp_path):
    data = features(path)
    asked = hallucination.Imagining(
        path=str(path), learner=learner, steps=2, size=SIZE, shots=1, extra=2, examples=20
    )
    base = hallucinating.statistics_of(data)
    protocol = hallucinating.Protocol(asked, 1, [0.001], 8, data, base)
    wanted = ["copies", "calibration", "oracle", "generator", "untrained"]
    rungs = hallucinating.rungs_of(wanted, learner, ["6"])
    hallucinating.check_episodes(protocol, rungs)
    found: list[Outcome] = []
    hallucinating.climb(protocol, rungs, tmp_path, found.append, pytest.fail)
    values = {each.rung: each.values for each in found}
    assert np.mean(values["oracle"]) > np.mean(values["plain"])
    rows = ladder_table.write(tmp_path, found)
    plots.ladder(tmp_path, [row for row in rows if ":" not in row["rung"]])
    plots.classes(tmp_path, [row for row in rows if ":" in row["rung"]])
    assert (tmp_path / "ladder.png").stat().st_size > 10_000
    own = hallucinating.folder_of(tmp_path, asked)
    drawn = hallucinating.drawn_from(protocol, found, tmp_path, classes=3)
    if learner != "logistic_regression":
        assert set(values) == {"plain", *wanted, "generator:6"}
        if learner == "prototypical":
            np.testing.assert_allclose(values["copies"], values["plain"])
        of_six, plain = (
            workdir.restore(own / name, trust=("*",)).params["learner"]
            for name in ("generator_of_6x20_0.001_0", "plain_0.001_0")
        )
        for part in ("model", "head"):  # stay as they are
            jax.tree.map(np.testing.assert_array_equal, of_six[part], plain[part])
        assert set(drawn) == {"generator", "generator:6"}
        assert drawn["generator"].drawn.shape == (3, 20, 50, SIZE)
        plots.imagined(tmp_path, drawn["generator"])
        assert (tmp_path / "imagined.png").stat().st_size > 10_000
    again: list[Outcome] = []
    stored = {path: path.stat().st_mtime_ns for path in own.glob("*.json")}
    assert stored
    hallucinating.climb(protocol, rungs, tmp_path, again.append, pytest.fail)
    assert again == found
    assert stored == {path: path.stat().st_mtime_ns for path in own.glob("*.json")}


def test_what_cannot_be_drawn_is_refused_before_training(path):
    data = features(path)
    asked = hallucination.Imagining(path=str(path), size=SIZE, extra=30)
    protocol = hallucinating.Protocol(asked, 1, [0.001], 8, data, None)
    with pytest.raises(ValueError, match="46"):
        hallucinating.check_episodes(protocol, ["plain", "oracle"])
    protocol = protocol._replace(asked=asked._replace(extra=1, examples=20))
    hallucinating.check_episodes(protocol, ["plain", "oracle", "generator:6"])
    with pytest.raises(ValueError, match="9"):
        hallucinating.check_episodes(protocol, ["plain", "generator:9"])
    train = data["train"]
    negative = train._replace(data=train.data._replace(examples=-train.data.examples))
    with pytest.raises(ValueError, match=r"100\.0%"):
        hallucinating.statistics_of({"train": negative})
