"""What a run leaves behind, and how a trained learner is restored from it.

A run's folder holds ``config.json`` (its specs), ``shapes.json`` (the shapes of one episode, so
that a learner can be restored without the data), ``checkpoints/``, ``metrics.jsonl`` and results.

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
from jaxmeta.nn import mixed_precision
from jaxmeta.runs.checkpoint import load, load_info, open_checkpoints
from jaxmeta.runs.spec import build
from jaxmeta.types import Batch, Episode, Learner, Model, PyTree

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


def restore(workdir: str | os.PathLike[str], trust: Sequence[str] = (), **changes: Any) -> Restored:
    """Restores the learner that a run evaluated, with its best checkpoint by validation.

    The optimizer is neither built nor read.

    Args:
      workdir: the folder of a run.
      trust: packages, as in ``("mine",)``, whose functions the run's config may name besides those
        of jaxmeta and optax. Naming a function of a package runs its code.
      **changes: arguments of the learner that are to differ from the run's, such as ``ways``,
        ``steps`` or ``normalization``. More ways than the learner was built for enlarge it; a
        learner with more ways serves fewer as it is.

    Returns:
      ``(learner, params, state)``.

    Raises:
      ValueError: the folder holds no run, its config names a function that is not trusted, it has
        no checkpoint that can be read, or the learner cannot tell so many classes apart.
    """
    return load_best(pathlib.Path(workdir), changes, trust)[0]


def load_best(
    folder: pathlib.Path, changes: Mapping[str, Any], trust: Sequence[str] = ()
) -> tuple[Restored, dict[str, Any]]:
    """As :func:`restore`, with the last checkpoint's ``info``, to which ``best_step`` is added."""
    config = read_config(folder)
    trained, learner = build_learners(config, trust, changes)
    shapes = read_shapes(folder)
    like = Trained(*jax.eval_shape(trained.init, jax.random.key(0), shapes))
    # Traced for its checks: a head with too few outputs is found before anything is computed.
    jax.eval_shape(learner.adapt, like.params, like.state, shapes.support, jax.random.key(0))

    def read(checkpoints: CheckpointManager, best: int, latest: int) -> tuple[Trained, Any]:
        info = {**load_info(checkpoints, latest), "best_step": best}
        return load(checkpoints, best, like)[0], info

    trained_state, info = read_best(folder, config, read)
    return Restored(learner, *trained_state), info


def read_best(
    folder: pathlib.Path,
    config: Mapping[str, Any],
    read: Callable[[CheckpointManager, int, int], Result],
) -> Result:
    """Reads from a run's checkpoints, and leaves them as they are.

    Args:
      folder: the folder of the run.
      config: its config.
      read: ``(checkpoints, best step, latest step) -> result``; the best is the latest where no
        checkpoint has a validation.

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


def build_learners(
    config: Mapping[str, Any], trust: Sequence[str] = (), changes: Mapping[str, Any] | None = None
) -> tuple[Learner, Learner]:
    """The learner as it is trained, and as it is evaluated with some arguments changed."""
    model = build_model(config, trust)
    evaluated = evaluated_spec(config, changes or {})
    return build(config["learner"], trust, model=model), build(evaluated, trust, model=model)


def build_model(config: Mapping[str, Any], trust: Sequence[str] = ()) -> Model:
    """The model, computing in the precision that the config asks for.

    >>> config = {"model": {"make": "jaxmeta.nn.mlp", "outputs": 3}, "mixed_precision": True}
    >>> type(build_model(config)).__name__
    'Model'
    """
    model: Model = build(config["model"], trust)
    return mixed_precision(model) if config.get("mixed_precision") else model


def evaluated_spec(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The spec of the learner as it is evaluated, which may differ from the one that is trained.

    ``config["evaluation"]["learner"]`` holds the arguments that differ, or a whole spec of its own
    if it names a function under ``make``; ``changes`` do the same to the result.

    >>> config = {"learner": {"make": "mine.solve", "steps": 1}, "evaluation": {"learner": {}}}
    >>> evaluated_spec(config, {"steps": 10})
    {'make': 'mine.solve', 'steps': 10}
    """
    if "make" in changes:
        return dict(changes)
    evaluated = config["evaluation"]["learner"]
    spec = evaluated if "make" in evaluated else {**config["learner"], **evaluated}
    if "ways" in changes and "ways" in spec:
        changes = {**changes, "ways": max(changes["ways"], spec["ways"])}
    return {**spec, **changes}


def read_config(folder: pathlib.Path) -> dict[str, Any]:
    """The config of a run.

    Raises:
      ValueError: the folder holds no run.
    """
    path = folder / "config.json"
    if not path.exists():
        raise ValueError(f"'{folder}' holds no run (no config.json): give the workdir of a run.")
    return json.loads(path.read_text())


def claim_folder(folder: pathlib.Path, config: Mapping[str, Any], episode: Episode) -> None:
    """Makes a folder the run of this config, or checks that it already is.

    Args:
      folder: the folder, which is made if it does not exist.
      config: the run's config, ready for JSON.
      episode: one of its episodes, whose shapes are kept.

    Raises:
      ValueError: the folder holds the run of another config or cannot be made, or the inputs are of
        a type that cannot be written as JSON.

    >>> import tempfile
    >>> batch = Batch(jax.numpy.ones((2, 4)), jax.numpy.zeros(2), jax.numpy.ones(2))
    >>> with tempfile.TemporaryDirectory() as name:
    ...     claim_folder(pathlib.Path(name), {"seed": 0}, Episode(batch, batch))
    ...     read_config(pathlib.Path(name)), read_shapes(pathlib.Path(name)).query.x
    ({'seed': 0}, ShapeDtypeStruct(shape=(2, 4), dtype=float32))
    """
    tree = jax.tree.map(lambda leaf: 0, {"support": episode.support.x, "query": episode.query.x})
    if not _survives_json(tree):
        raise ValueError(
            f"The inputs x are {jax.tree.structure(episode.support.x)}, which shapes.json cannot "
            "hold: make it a dictionary from strings to arrays."
        )
    # The other processes look when it is there: a file system may remember that it was not.
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
