"""What a run leaves behind, and how a trained learner is got back from it.

A run's folder holds ``config.json`` (its specs), ``shapes.json`` (the shapes of one episode, so
that a learner can be restored without the data), ``checkpoints/``, ``metrics.jsonl`` and results.
"""

import json
import os
import pathlib
import textwrap
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from jaxmeta.distributed.processes import barrier, from_primary, is_primary
from jaxmeta.nn import mixed_precision
from jaxmeta.runs.checkpoint import load, open_checkpoints
from jaxmeta.runs.spec import build
from jaxmeta.train import TrainState, init_train_state
from jaxmeta.types import Batch, Episode, Learner, Model, PyTree


class Restored(NamedTuple):
    """A trained learner, ready to adapt and predict."""

    learner: Learner
    params: PyTree
    state: PyTree


def restore(workdir: str | os.PathLike[str], **changes: Any) -> Restored:
    """Gives back the learner that a run evaluated, with its best checkpoint by validation.

    Args:
      workdir: the folder given to ``experiments.train``.
      **changes: arguments of the learner that are to differ from the run's, such as ``ways``,
        ``steps`` or ``normalization``. More ways than the learner was built for enlarge it; one for
        more classes serves fewer as it is.

    Returns:
      ``(learner, params, state)``.

    Raises:
      ValueError: the folder holds no run, the run has no checkpoint that can be read, or the
        learner cannot tell so many classes apart.
    """
    return load_best(pathlib.Path(workdir), changes)[0]


def load_best(folder: pathlib.Path, changes: Mapping[str, Any]) -> tuple[Restored, dict[str, Any]]:
    """As :func:`restore`, with ``best_step`` and what the last checkpoint tells of the training."""
    config = read_config(folder)
    learner = build(evaluated_spec(config, changes), model=build_model(config))
    shapes = read_shapes(folder)
    like = abstract_state(config, build_learners(config)[0], shapes)
    # Traced for its checks: a head with too few outputs is found before anything is computed.
    jax.eval_shape(learner.adapt, like.params, like.state, shapes.support, jax.random.key(0))
    try:
        with open_checkpoints(folder / "checkpoints", config["higher_is_better"]) as checkpoints:
            latest = from_primary(checkpoints.latest_step())
            best = from_primary(checkpoints.best_step())
            if latest is not None:
                best = latest if best is None else best
                train_state, _ = load(checkpoints, best, like)
                _, info = load(checkpoints, latest, like)
    except (ValueError, KeyError, OSError) as error:
        raise ValueError(
            f"A checkpoint in '{folder}' cannot be read ({textwrap.shorten(str(error), 100)}): "
            "train again in that folder to put it right."
        ) from error
    if latest is None:
        raise ValueError(f"'{folder}' has no checkpoint yet: train it first.")
    return Restored(learner, train_state.params, train_state.state), {**info, "best_step": best}


def build_learners(config: Mapping[str, Any]) -> tuple[Learner, Learner]:
    """The learner as it is trained, and as it is evaluated."""
    model = build_model(config)
    return build(config["learner"], model=model), build(evaluated_spec(config, {}), model=model)


def build_model(config: Mapping[str, Any]) -> Model:
    """The model, computing in the precision that the config asks for."""
    model: Model = build(config["model"])
    return mixed_precision(model) if config.get("mixed_precision") else model


def evaluated_spec(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The spec of the learner as it is evaluated; it may differ from the one that is trained.

    One that names a function of its own under ``make`` takes the place of the trained one's.
    """
    if "make" in changes:
        return dict(changes)
    evaluated = config["evaluation"]["learner"]
    spec = evaluated if "make" in evaluated else {**config["learner"], **evaluated}
    if "ways" in changes and "ways" in spec:
        changes = {**changes, "ways": max(changes["ways"], spec["ways"])}
    return {**spec, **changes}


def abstract_state(config: Mapping[str, Any], learner: Learner, shapes: Episode) -> TrainState:
    """The shapes of a run's train state, without computing it."""
    optimizer = build(config["optimizer"])

    def make(episode: Episode) -> TrainState:
        return init_train_state(optimizer, *learner.init(jax.random.key(0), episode))

    return jax.eval_shape(make, shapes)


def read_config(folder: pathlib.Path) -> dict[str, Any]:
    """The config of a run.

    Raises:
      ValueError: the folder holds no run.
    """
    path = folder / "config.json"
    if not path.exists():
        raise ValueError(f"'{folder}' holds no run (no config.json): give the workdir of a run.")
    return json.loads(path.read_text())


def claim(folder: pathlib.Path, config: Mapping[str, Any], episode: Episode) -> None:
    """Makes a folder this config's own, or checks that it already is.

    Raises:
      ValueError: the folder holds another config's run or cannot be made, or the inputs are of a
        type that a file does not hold.
    """
    tree = jax.tree.map(lambda leaf: 0, {"support": episode.support.x, "query": episode.query.x})
    if not _survives_json(tree):
        raise ValueError(
            f"The inputs x are {jax.tree.structure(episode.support.x)}, which shapes.json cannot "
            "hold: make it a dictionary, with texts as keys and arrays as values."
        )
    # The others look when it is there: a file system may remember that it was not.
    if is_primary() and not (folder / "config.json").exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"'{folder}' cannot be made a folder ({error.strerror}): give another workdir."
            ) from error
        shapes = [[list(leaf.shape), str(leaf.dtype)] for leaf in jax.tree.leaves(episode)]
        write_atomically(folder / "shapes.json", json.dumps({"x": tree, "leaves": shapes}))
        write_atomically(folder / "config.json", json.dumps(config, indent=2, sort_keys=True))
    barrier("claiming the folder")
    if not (folder / "config.json").exists():
        raise ValueError(
            f"'{folder}' is not the folder that the first process wrote to: give a workdir on a "
            "file system that all processes share."
        )
    differing = sorted(_differences(read_config(folder), json.loads(json.dumps(config))))
    if differing:
        raise ValueError(
            f"'{folder}' holds a run of another config (it differs in {', '.join(differing)}): "
            "give another workdir, or that run's config to resume it."
        )


def read_shapes(folder: pathlib.Path) -> Episode:
    """The shapes of one of the run's episodes, as ``jax.ShapeDtypeStruct``."""
    stored = json.loads((folder / "shapes.json").read_text())
    leaf: Any = 0
    like = Episode(*(Batch(stored["x"][name], leaf, leaf) for name in ("support", "query")))
    leaves = [jax.ShapeDtypeStruct(tuple(shape), dtype) for shape, dtype in stored["leaves"]]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Writes a file whole or not at all; of several processes, the first one does."""
    if not is_primary():
        return
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def _survives_json(tree: PyTree) -> bool:
    try:
        jax.tree.map(lambda *_: None, tree, json.loads(json.dumps(tree)))
    except (TypeError, ValueError):
        return False
    return True


def _differences(one: Any, other: Any, name: str = "") -> set[str]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        fields = set(one) | set(other)
        missing = object()
        return {
            path
            for field in fields
            for path in _differences(
                one.get(field, missing), other.get(field, missing), f"{name}.{field}".lstrip(".")
            )
        }
    return set() if one == other else {name}
