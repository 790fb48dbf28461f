"""What a run leaves behind, and how a trained learner is restored from it.

A run's folder holds ``config.json`` (its specs), ``shapes.json`` (the shapes of a training task and
of an evaluated episode, so that a learner can be restored without the data), ``checkpoints/``,
``metrics.jsonl`` and results.

A folder may be somebody else's: its specs may only name what :mod:`jaxmeta.runs.spec` allows, and
functions of packages that the caller trusts.
"""

import json
import os
import pathlib
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
from orbax.checkpoint import CheckpointManager

from jaxmeta.distributed.processes import barrier, from_primary, is_primary
from jaxmeta.inner import path_name
from jaxmeta.runs.checkpoint import load, load_info, open_checkpoints
from jaxmeta.runs.config import (
    build_learner,
    build_objective,
    complete,
    evaluation_of,
    learner_spec,
)
from jaxmeta.runs.config_checks import CHECKPOINTS
from jaxmeta.runs.shapes import from_json, to_json
from jaxmeta.runs.spec import suggest
from jaxmeta.types import Episode, Learner, PyTree

Result = TypeVar("Result")


class Restored(NamedTuple):
    """A trained learner, ready to adapt and predict."""

    learner: Learner
    params: PyTree
    state: PyTree


class Trained(NamedTuple):
    """The fields of a train state that inference needs: the optimizer is not among them."""

    params: PyTree
    state: PyTree


class Shapes(NamedTuple):
    """The shapes of what a run is trained and evaluated on, as ``jax.ShapeDtypeStruct``.

    Attributes:
      task: a task of the objective.
      episode: an episode of the first evaluation.
    """

    task: PyTree
    episode: Episode


def restore(
    workdir: str | os.PathLike[str],
    evaluation: str | None = None,
    trust: Sequence[str] = (),
    checkpoint: str | None = None,
    **changes: Any,
) -> Restored:
    """Restores the learner that a run evaluated, with the checkpoint of its result.

    The optimizer is neither built nor read.

    Args:
      workdir: the folder of a run.
      evaluation: which of the run's evaluations, by name; by default the first.
      trust: packages, as in ``("mine",)``, whose functions the run's config may name besides those
        of jaxmeta and optax. Naming a function of a package runs its code.
      checkpoint: ``"best"``, the best one by validation, or ``"last"``; by default what the run's
        config asks for in ``evaluation.checkpoint``.
      **changes: arguments of the learner that are to differ from the run's, such as ``ways``,
        ``steps`` or ``normalization``. More ways than the learner was built for enlarge it; it
        handles fewer ways unchanged.

    Returns:
      ``(learner, params, state)``.

    Raises:
      ValueError: the folder holds no run, its config names a function that is not trusted, it has
        no checkpoint that can be read, or the learner cannot tell that many classes apart.
    """
    return load_trained(pathlib.Path(workdir), evaluation, changes, trust, checkpoint)[0]


def load_trained(
    folder: pathlib.Path,
    evaluation: str | None = None,
    changes: Mapping[str, Any] | None = None,
    trust: Sequence[str] = (),
    checkpoint: str | None = None,
) -> tuple[Restored, dict[str, Any]]:
    """Like :func:`restore`, also returning the last checkpoint's ``info``.

    It has ``best_step``, the best checkpoint's, and ``step``, that of the one that was read.
    """
    config = read_config(folder)
    checkpoint = config["evaluation"]["checkpoint"] if checkpoint is None else checkpoint
    if checkpoint not in CHECKPOINTS:
        raise ValueError(f"checkpoint is '{checkpoint}': give {' or '.join(CHECKPOINTS)}.")
    learner = build_learner(config, learner_spec(config, evaluation, changes), trust)
    objective, kept = build_objective(config, trust), read_shapes(folder)
    like = Trained(*jax.eval_shape(objective.init, jax.random.key(0), kept.task))
    wanted = evaluation_of(config, evaluation)
    # Traced for its checks: a head with too few outputs is found before anything is computed.
    learned = evaluated_parts(wanted, like.params, like.state)
    jax.eval_shape(learner.adapt, *learned, kept.episode.support, jax.random.key(0))

    def read(checkpoints: CheckpointManager, best: int, latest: int) -> tuple[Trained, Any]:
        step = best if checkpoint == "best" else latest
        info = {**load_info(checkpoints, latest), "best_step": best, "step": step}
        return load(checkpoints, step, like)[0], info

    trained, info = read_best(folder, config, read)
    return Restored(learner, *evaluated_parts(wanted, *trained)), info


def evaluated_parts(
    evaluation: Mapping[str, Any], params: PyTree, state: PyTree
) -> tuple[PyTree, PyTree]:
    """The parts of the parameters and of the state that an evaluation's learner is given."""
    return (
        subtree(params, evaluation["params"], "parameters"),
        subtree(state, evaluation["state"], "state"),
    )


def subtree(tree: PyTree, name: str, whose: str) -> PyTree:
    """A named part of a pytree, as in ``"teacher/model"``; ``""`` is the whole.

    Raises:
      ValueError: there is no such part.

    >>> subtree({"teacher": {"w": 3}}, "teacher/w", "state")
    3
    """
    for part in name.split("/") if name else ():
        named = _children(tree)
        if part not in named:
            raise ValueError(f"There is no '{name}' in the {whose}: {suggest(part, named)}.")
        tree = named[part]
    return tree


def _children(tree: PyTree) -> dict[str, PyTree]:
    """One level of a tree by name, whether it is a dictionary, a list or a named tuple."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda node: node is not tree)
    return {path_name(path): child for path, child in paths}


def read_best(
    folder: pathlib.Path,
    config: Mapping[str, Any],
    read: Callable[[CheckpointManager, int, int], Result],
) -> Result:
    """Reads from a run's checkpoints without changing them.

    Args:
      folder: the folder of the run.
      config: its config.
      read: ``(checkpoints, best step, latest step) -> result``; the best is the latest if no
        checkpoint has a validation score.

    Returns:
      The result.

    Raises:
      ValueError: there is no checkpoint, or ``read`` failed.
    """
    try:
        with open_checkpoints(
            folder / "checkpoints", config["higher_is_better"], read_only=True
        ) as checkpoints:
            latest = from_primary(checkpoints.latest_step())
            best = from_primary(checkpoints.best_step())
            if latest is not None:
                return read(checkpoints, latest if best is None else best, latest)
    except (ValueError, KeyError, OSError) as error:
        raise ValueError(
            f"A checkpoint in '{folder}' cannot be read ({textwrap.shorten(str(error), 100)}): "
            "train again in that folder, which sets it aside."
        ) from error
    raise ValueError(f"'{folder}' has no checkpoint yet: train it first.")


def read_config(folder: pathlib.Path) -> dict[str, Any]:
    """The config of a run.

    Raises:
      ValueError: the folder holds no run, or its config cannot be read.
    """
    stored = _stored_config(folder)
    try:
        return complete(stored)
    except ValueError as error:
        raise ValueError(f"The config of '{folder}' cannot be used: {error}") from error


def _stored_config(folder: pathlib.Path) -> Any:
    path = folder / "config.json"
    if not path.exists():
        raise ValueError(f"'{folder}' holds no run (no config.json): give the workdir of a run.")
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(
            f"'{path}' is not JSON ({error}): give the workdir of another run."
        ) from error


def claim_folder(folder: pathlib.Path, config: Mapping[str, Any], kept: Shapes) -> None:
    """Claims a folder for this config's run, or checks that it already holds that run.

    Args:
      folder: the folder, which is created if it does not exist.
      config: the run's config, ready for JSON.
      kept: the shapes of a task and of an episode.

    Raises:
      ValueError: the folder holds the run of another config or cannot be created, or a task is of
        a type that cannot be written as JSON.

    >>> import tempfile
    >>> from jaxmeta.types import Batch
    >>> batch = Batch(jax.numpy.ones((2, 4)), jax.numpy.zeros(2), jax.numpy.ones(2))
    >>> with tempfile.TemporaryDirectory() as name:
    ...     folder = pathlib.Path(name)
    ...     claim_folder(folder, {"seed": 0}, Shapes(batch, Episode(batch, batch)))
    ...     read_shapes(folder).episode.query.x
    ShapeDtypeStruct(shape=(2, 4), dtype=float32)
    """
    written = {name: to_json(tree) for name, tree in kept._asdict().items()}
    # The other processes look once it exists: a file system may remember that it did not.
    if is_primary() and not (folder / "config.json").exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"'{folder}' cannot be made a folder ({error.strerror}): give another workdir."
            ) from error
        write_atomically(folder / "shapes.json", json.dumps(written))
        # In its own order: the first metric and the first evaluation choose the checkpoint.
        write_atomically(folder / "config.json", json.dumps(config, indent=2))
    barrier("claiming the folder")
    if not (folder / "config.json").exists():
        raise ValueError(
            f"'{folder}' is not the folder that the first process wrote to: give a workdir on a "
            "file system that all processes share."
        )
    differing = sorted(_differences(_stored_config(folder), json.loads(json.dumps(config))))
    if differing:
        raise ValueError(
            f"'{folder}' holds a run of another config (it differs in {', '.join(differing)}): "
            "give another workdir, or that run's config to resume it."
        )


def read_shapes(folder: pathlib.Path) -> Shapes:
    """The shapes of what a run is trained and evaluated on."""
    stored = json.loads((folder / "shapes.json").read_text())
    return Shapes(**{name: from_json(tree) for name, tree in stored.items()})


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Writes a file completely or not at all; of several processes, only the first one writes.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     write_atomically(pathlib.Path(name) / "note.txt", "done")
    ...     (pathlib.Path(name) / "note.txt").read_text()
    'done'
    """
    if not is_primary():
        return
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


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
