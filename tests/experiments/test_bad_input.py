"""Every mistake ends in one sentence that names what was wrong and what to do."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import evaluate, train
from jaxmeta import learners, nn
from jaxmeta.data import make_episode, sinusoid
from jaxmeta.runs import tasks, workdir
from jaxmeta.runs.config import complete
from jaxmeta.types import Array, Augment, Batch, Episode, Key, Model, PyTree, Source
from tests.experiments import dots, waves
from tests.experiments.conftest import DOTS, WAVES, finish, start

Launch = Callable[..., None]
HERE = "tests.experiments.test_bad_input"


def crooked() -> dict[str, Source]:
    """Queries of another shape than the support set's."""
    return _wider(lambda support: support)


def halving(padding: int) -> Augment:
    """Cuts images into halves."""
    return lambda key, image: image[::2]


def broad() -> dict[str, Source]:
    """Inputs of two numbers."""
    return _wider(_twice)


def _twice(batch: Batch) -> Batch:
    return batch._replace(x=jnp.tile(batch.x, (1, 2)))


def _wider(of_support: Callable[[Batch], Batch]) -> dict[str, Source]:

    def episodes(*args: int, **kwargs: int) -> Callable[[PyTree, Key], Episode]:
        sample = sinusoid()["train"].episodes(*args, **kwargs)

        def wider(data: PyTree, key: Key) -> Episode:
            support, query = sample(data, key)
            return Episode(of_support(support), _twice(query))

        return wider

    return dict.fromkeys(("train", "valid", "test"), Source((), episodes))


def mislabeled(**arguments: Any) -> dict[str, Source]:
    """Query sets of the test split with a class that no support set has."""
    sources = dots.patterns(**arguments)

    def episodes(*args: int, **kwargs: int) -> Callable[[PyTree, Key], Episode]:
        sample = sources["test"].episodes(*args, **kwargs)

        def wrong(data: PyTree, key: Key) -> Episode:
            support, query = sample(data, key)
            return Episode(support, query._replace(y=query.y.at[-1].set(7)))

        return wrong

    return {**sources, "test": sources["test"]._replace(episodes=episodes)}


def counting(**arguments: Any) -> Model:
    """A model one of whose parameters is an integer."""
    model = nn.mlp(**arguments)

    def init(key: Key, x: Array) -> tuple[PyTree, PyTree]:
        params, state = model.init(key, x)
        return {**params, "count": jnp.zeros((), jnp.int32)}, state

    return Model(init, model.apply)


def broken(**arguments: Any) -> Model:
    """A model of a user's with a mistake in it."""
    raise ValueError("my own mistake")


def sentence(launch: Launch, module: ModuleType, *arguments: object) -> str:
    with pytest.raises(SystemExit) as stopped:
        launch(module, *arguments)
    text = stopped.value.code
    assert isinstance(text, str), "sys.exit of a text prints it and exits with status 1"
    assert re.fullmatch(r"Error: [^\n]+[.?]", text)
    return text


FIELDS = {
    "config.stepz=3": ["config has no field 'stepz'", "steps"],
    "config.evaluation.evry=3": ["config.evaluation has no field 'evry'", "every"],
    "config.modle.outputs=3": ["no field 'modle'", "model"],
    "config.steps=three": ["--config.steps=three", "three", "give a value"],
    "config.learner.learning_rate=fast": ["--config.learner.learning_rate=fast", "give a value"],
    "config.learner=3": ["--config.learner=3", "3", "give a value"],
    "config.learner.lerning_rate=1": ["maml takes no argument 'lerning_rate'", "learning_rate"],
    "config.model.filters=4": ["mlp takes no argument 'filters'", "outputs, hidden"],
    "config.model.make=jaxmeta.nn.mpl": ["'jaxmeta.nn' has no 'mpl'", "mlp"],
    "config.model.make=jaxmetta.mlp": ["'jaxmetta.mlp' cannot be imported", "dotted name"],
    "config.model.make=jaxmeta.losses": [
        "'jaxmeta.losses' is not a function",
        "dotted name of one",
    ],
    "config.data.ways=3": ["sinusoid takes no argument 'ways': there are none"],
    "config.evaluations.trained.learner.steps=2.5": [
        "steps is 2.5: give a whole number, 0 or more"
    ],
    "config.steps=-1": ["config.steps is -1", "0 or more"],
    "config.meta_batch=0": ["config.meta_batch is 0", "1 or more"],
    "config.learner.normalization=running": ["'running', whose averages", "train with 'trans"],
    "config.evaluation.every=0": ["config.evaluation.every is 0", "multiple of config.log_every"],
    "config.learner.steps=-2": ["steps is -2", "0 or more"],
    "config.learner.normalization=batch": ["'batch'", "'transductive', 'inductive'"],
    "config.evaluation.validation_episodes=1": ["validation_episodes is 1", "2 or more"],
    "config.evaluation.episodes=0": ["config.evaluation.episodes is 0", "2 or more"],
    f"config.data.make={HERE}.crooked": ["(1,)", "(2,)", "needs both alike"],
    "config.chunk=0": ["config.chunk is 0", "1 or more"],
    "config.steps=0": ["config.optimizer.learning_rate.decay_steps is 0", "1 or more"],
    "config.learner.steps=2 config.evaluations.trained.learner.steps=1": [
        "config.evaluations.trained.learner.steps is 1",
        "config.learner.steps, which is 2",
        "set both",
    ],
    "config.evaluations.trained.learner.stepz=1": ["maml takes no argument 'stepz'", "steps"],
    "config.log_every=2 config.evaluation.every=3": ["every is 3", "log_every, which is 2"],
    f"config.model.make={HERE}.counting": ["'count'", "int32", "convert it"],
}


@pytest.mark.parametrize("flags", FIELDS)
def test_of_a_field(flags: str, launch: Launch, tmp_path: Path) -> None:
    options = [f"--{flag}" for flag in flags.split()]
    text = sentence(launch, train, f"--config={WAVES}", f"--workdir={tmp_path}/run", *options)
    for part in FIELDS[flags]:
        assert part in text
    assert not (tmp_path / "run").exists()


AUGMENT = "config.objective.augment"
EPISODES = {
    "config.ways=13": ["No such episodes of the train split", "13 ways", "has 12", "fewer"],
    "config.queries=4": ["1 shots and 4 queries", "5 examples", "'pattern 0' has 4", "fewer"],
    "config.ways=5 config.sample.ways=3": ["tells 3 ways", "the valid split have 5", "more ways"],
    "config.sample.ways=4": ["3 outputs", "4 ways", "same number"],
    "config.evaluations.trained.learner.ways=4": ["3 outputs", "4 ways", "same number"],
    f"config.data.make={HERE}.mislabeled": ["Label 7 is outside the 3 ways", "from 0 to 2"],
    "config.learner.ways=4": ["3 outputs", "4 ways", "same number"],
    f"{AUGMENT}.make=jaxmeta.data.crop_and_miror": ["has no", "crop_and_mirror"],
    f"{AUGMENT}.padding=-1": ["padding is -1"],
    f"{AUGMENT}.make={HERE}.halving": ["float32[4, 8, 1] of an example float32[8, 8, 1]"],
    "config.evaluations.trained.lerner=1": ["no field 'lerner'", "learner"],
    "config.rates['model/layer9']=0.0": ["the part 'model/layer9'", "model/layer0"],
    "config.rates.model/layer9=0.0": ["cannot be read", "config.rates['model/head']"],
    "config.init_from.take=model": ["config.init_from has the fields take", "`workdir`"],
    "config.init_from.workdir=nowhere": ["'nowhere' holds no run", "give the workdir"],
    "config.estimator.make=jaxmeta.gradients.pcgrat": ["no 'pcgrat'", "pcgrad"],
    "config.data.make=jaxmeta.data.nothing": ["'jaxmeta.data' has no 'nothing'"],
}


@pytest.mark.parametrize("flags", EPISODES)
def test_of_an_episode(flags: str, launch: Launch, tmp_path: Path) -> None:
    options = [f"--{flag}" for flag in flags.split()]
    config = f"{DOTS}:augmented" if "augment" in flags else DOTS
    text = sentence(launch, train, f"--config={config}", f"--workdir={tmp_path}/run", *options)
    for part in EPISODES[flags]:
        assert part in text
    assert not (tmp_path / "run").exists()


def test_nothing_given(launch: Launch) -> None:
    assert "--config and --workdir are needed" in sentence(launch, train)
    assert "--workdir is needed" in sentence(launch, evaluate)


def test_a_config_file_that_is_not_there(launch: Launch) -> None:
    for flags in (["--config=none.py"], ["--config=none.py", "--config.steps=3"]):
        text = sentence(launch, train, *flags, "--workdir=unused")
        assert "'none.py'" in text
        assert "--config=quickstart" in text


def test_a_flag_that_is_not_there(launch: Launch) -> None:
    assert "'wrokdir'. Did you mean: workdir" in sentence(launch, train, "--wrokdir=here")


def test_a_field_that_has_to_be_set(launch: Launch, tmp_path: Path) -> None:
    config = "experiments/configs/protonet_folder.py"
    text = sentence(launch, train, f"--config={config}", f"--workdir={tmp_path}/run")
    assert text == "Error: jaxmeta.data.folder needs the argument 'path': set it in the spec."


def test_a_config_without_a_needed_field() -> None:
    config = waves.get_config()
    del config["metrics"]
    with pytest.raises(ValueError, match="The config has no field 'metrics': add it"):
        complete(config)


def test_a_workdir_of_another_run(launch: Launch, undisturbed: Path) -> None:
    before = (undisturbed / "metrics.jsonl").read_bytes()
    options = ["--config.seed=1", "--config.learner.learning_rate=0.5"]
    text = sentence(launch, train, f"--config={WAVES}", f"--workdir={undisturbed}", *options)
    assert f"'{undisturbed}' holds a run of another config" in text
    assert "differs in learner.learning_rate, seed)" in text
    assert "give another workdir" in text
    assert (undisturbed / "metrics.jsonl").read_bytes() == before


def test_a_workdir_that_is_a_file(launch: Launch, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    text = sentence(launch, train, f"--config={WAVES}", f"--workdir={file}")
    assert f"'{file}' cannot be made a folder (File exists)" in text
    assert f"'{file}' holds no run" in sentence(launch, evaluate, f"--workdir={file}")


class Pair(NamedTuple):
    image: Array
    tokens: Array


def test_inputs_that_a_run_cannot_write_down(tmp_path: Path) -> None:
    image, tokens = np.zeros((2, 3), np.float32), np.zeros((2, 5), np.int32)
    for x in (Pair(image, tokens), {1: image}):
        episode = make_episode(x, [0, 1], x, [0, 1])
        with pytest.raises(ValueError, match=r"shapes.json cannot hold: make it of arrays"):
            workdir.claim_folder(tmp_path / "run", {}, workdir.Shapes(episode, episode))
        assert not (tmp_path / "run").exists()
    # A list gives one example after another.
    for i, x in enumerate((image, [*image], {"b": image, "a": tokens}, (image, {"a": tokens}))):
        episode = make_episode(x, [0, 1], x, [0, 1])
        workdir.claim_folder(tmp_path / str(i), {}, workdir.Shapes(episode.query, episode))
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), episode)
        assert workdir.read_shapes(tmp_path / str(i)) == (shapes.query, shapes)


def test_evaluating_on_inputs_of_another_kind(
    launch: Launch, tmp_path: Path, undisturbed: Path
) -> None:
    shutil.copytree(undisturbed, tmp_path / "run")
    options = [f"--data={WAVES}", f"--data.data.make={HERE}.broad"]
    text = sentence(launch, evaluate, f"--workdir={tmp_path}/run", *options)
    assert "The inputs are float32[2] and those of the training were float32[1]" in text


def test_evaluating_a_folder_without_a_run(launch: Launch, tmp_path: Path) -> None:
    text = sentence(launch, evaluate, f"--workdir={tmp_path}")
    assert f"'{tmp_path}' holds no run" in text
    assert "give the workdir of a run" in text


def test_evaluating_a_run_without_a_checkpoint(
    launch: Launch, tmp_path: Path, undisturbed: Path
) -> None:
    for name in ("config.json", "shapes.json"):
        (tmp_path / name).write_bytes((undisturbed / name).read_bytes())
    text = sentence(launch, evaluate, f"--workdir={tmp_path}")
    assert f"'{tmp_path}' has no checkpoint yet: train it first." in text


def test_evaluating_a_broken_checkpoint(launch: Launch, tmp_path: Path, undisturbed: Path) -> None:
    shutil.copytree(undisturbed, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "12" / "metrics" / "metrics").write_text("{")
    text = sentence(launch, evaluate, f"--workdir={tmp_path}/run")
    assert f"A checkpoint in '{tmp_path}/run' cannot be read" in text
    assert "train again in that folder" in text


@pytest.mark.parametrize("where", ["flag", "variable"])
def test_data_that_is_not_there(
    where: str, launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = tmp_path / "nowhere"
    monkeypatch.delenv("JAXMETA_DATA_DIR", raising=False)
    options = [f"--data_dir={nowhere}"]
    if where == "variable":
        monkeypatch.setenv("JAXMETA_DATA_DIR", str(nowhere))
        options = []
    config = "--config=experiments/configs/maml_omniglot.py"
    text = sentence(launch, train, config, f"--workdir={tmp_path}/run", *options)
    assert f"There is no folder {nowhere}" in text
    assert "--data_dir or JAXMETA_DATA_DIR" in text


def test_labels_outside_the_ways() -> None:
    x, right, wrong = np.zeros((3, 2), np.float32), [0, 1, 2], [0, 1, 3]
    with pytest.raises(ValueError, match=r"Label 3 is outside 0..2 \(3 ways\); number"):
        make_episode(x, right, x, wrong, ways=3)
    learner = learners.prototypical(nn.mlp(2), ways=3)
    episode = make_episode(x, right, x, right, ways=3)
    params, state = learner.init(jax.random.key(0), episode)
    support = make_episode(x, wrong, x, wrong).support
    with pytest.raises(ValueError, match="Label 3 is outside the 3 ways: labels go from 0 to 2"):
        learner.adapt(params, state, support, jax.random.key(0))


@pytest.mark.parametrize("nested", [False, True])
def test_a_classifier_of_fewer_classes_than_there_are(nested: bool) -> None:
    source = dots.patterns(classes=12, examples=4)["train"]

    def sampler(classes: int) -> object:
        objective: dict[str, Any] = {"classes": classes}
        objective = {"objective": objective} if nested else objective
        return tasks.training_sampler(source, {"sample": {"batches": 4}, "objective": objective})

    for enough in (12, 13):
        sampler(enough)
    with pytest.raises(ValueError, match=r"classes is 11 but the train split has 12"):
        sampler(11)


def test_a_mistake_in_a_users_own_function_keeps_its_frames(launch: Launch, tmp_path: Path) -> None:
    options = [f"--config={WAVES}", f"--workdir={tmp_path}", f"--config.model.make={HERE}.broken"]
    with pytest.raises(ValueError, match="my own mistake"):
        launch(train, *options)


def test_as_a_program() -> None:
    status, errors = finish(start("train", f"--config={WAVES}"))
    assert status == 1
    assert re.fullmatch(r"Error: --config and --workdir are needed[^\n]+\n", errors)
    status, errors = finish(start("evaluate", "--workdir=nowhere"))
    assert status == 1
    assert re.fullmatch(r"Error: 'nowhere' holds no run[^\n]+\n", errors)
