"""Checkpoints by orbax: the latest two, and the best by validation.

Every field of a train state is a separate item in a checkpoint, so parameters can be read without
the optimizer's state, or without knowing the learner at all.

Orbax writes into a temporary folder and renames it when everything is written, so a killed process
never leaves a broken checkpoint. A failing disk or a power cut may; see
:func:`set_aside_unreadable`.
"""

import json
import logging
import math
import pathlib
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Sharding, SingleDeviceSharding
from orbax.checkpoint.checkpoint_managers import preservation_policy

from jaxmeta.distributed.processes import barrier, from_primary, is_primary, shared_sharding
from jaxmeta.types import PyTree

State = TypeVar("State")
"""A ``NamedTuple`` of pytrees, such as :class:`jaxmeta.train.TrainState`."""


def open_checkpoints(
    directory: pathlib.Path, higher_is_better: bool, read_only: bool = False
) -> ocp.CheckpointManager:
    """Opens a folder of checkpoints; close it, or use it in a ``with`` statement.

    Args:
      directory: the folder, which is created if it does not exist.
      higher_is_better: whether the best checkpoint has the highest or the lowest validation score.
      read_only: leave the folder unchanged. Otherwise half-written checkpoints are removed, which
        may include one that a running process is still writing.

    >>> with tempfile.TemporaryDirectory() as name:
    ...     with open_checkpoints(pathlib.Path(name), higher_is_better=True) as checkpoints:
    ...         checkpoints.all_steps()
    []
    """

    def validation(metrics: Any) -> float:
        return float(metrics["validation"])

    return ocp.CheckpointManager(
        directory.resolve(),
        options=ocp.CheckpointManagerOptions(
            best_fn=validation,
            best_mode="max" if higher_is_better else "min",
            preservation_policy=preservation_policy.AnyPreservationPolicy(
                [
                    preservation_policy.LatestN(2),
                    preservation_policy.BestN(
                        get_metric_fn=validation,
                        reverse=not higher_is_better,
                        n=1,
                        keep_checkpoints_without_metrics=False,
                    ),
                ]
            ),
            create=not read_only,
            cleanup_tmp_directories=not read_only,
            # A save returns once it is on disk: what was reported as saved is saved.
            enable_async_checkpointing=False,
        ),
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Keeps orbax from warning about what is intended: no score, or a single item read."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def any_saved(directory: pathlib.Path) -> bool:
    """Whether there is a checkpoint in a folder, which need not exist.

    >>> any_saved(pathlib.Path("nowhere"))
    False
    """
    return bool(from_primary(sum(path.name.isdigit() for path in directory.glob("*"))))


def save(
    checkpoints: ocp.CheckpointManager,
    step: int,
    train_state: Any,
    info: dict[str, Any],
    validation: float = math.nan,
) -> None:
    """Writes a checkpoint, unless there is already one for that step.

    Args:
      checkpoints: an open folder.
      step: the number of optimizer steps taken.
      train_state: a ``NamedTuple`` of pytrees of arrays, each of which becomes a separate item.
      info: what to store with it, ready for JSON.
      validation: the score by which the best checkpoint is chosen; one that is not finite counts
        as none.

    Raises:
      OSError: it could not be written, for example on a full disk; earlier checkpoints are
        unchanged.

    >>> from typing import NamedTuple
    >>> class Line(NamedTuple):
    ...     params: dict[str, jax.Array]
    ...     state: tuple[()] = ()
    >>> line = Line({"slope": jax.numpy.ones(1)})
    >>> with tempfile.TemporaryDirectory() as name:
    ...     with open_checkpoints(pathlib.Path(name), higher_is_better=True) as checkpoints:
    ...         save(checkpoints, 10, line, {"note": "first"}, validation=0.5)
    ...         load(checkpoints, 10, like=line)
    (Line(params={'slope': Array([1.], dtype=float32)}, state=()), {'note': 'first'})
    """
    if step in checkpoints.all_steps():
        return
    kept = checkpoints.latest_step()
    items = {name: ocp.args.StandardSave(item) for name, item in _items(train_state).items()}
    args = ocp.args.Composite(info=ocp.args.JsonSave(info), **items)
    scores = {"validation": validation} if math.isfinite(validation) else None
    try:
        with _quietly():
            checkpoints.save(step, args=args, metrics=scores, force=True)
    except jax.errors.JaxRuntimeError:  # another process was lost
        raise
    except Exception as error:  # of many types
        resumes = "starts over" if kept is None else f"resumes from step {kept}"
        raise OSError(
            f"Step {step} could not be saved in '{checkpoints.directory}' "
            f"({textwrap.shorten(str(error), 300)}): make room on the disk, or repair it, and run "
            f"the same command, which {resumes}."
        ) from error


def load(
    checkpoints: ocp.CheckpointManager, step: int, like: State
) -> tuple[State, dict[str, Any]]:
    """Reads what :func:`save` wrote, or some of its fields.

    Args:
      checkpoints: an open folder.
      step: the number of optimizer steps after which the checkpoint was written.
      like: a ``NamedTuple`` with some or all of the fields that were saved, each a pytree of arrays
        or of ``jax.ShapeDtypeStruct`` that gives the structure and, if set, the sharding. Only
        these fields are read; one that holds no array is returned as is.

    Returns:
      ``(like with the saved arrays, info)``.
    """
    here = shared_sharding()
    args = _restore_args(like, lambda leaf: getattr(leaf, "sharding", None) or here)
    loaded = checkpoints.restore(step, args=args)
    fields: Any = like
    return fields._replace(**{name: loaded[name][name] for name in _items(like)}), loaded["info"]


def load_info(checkpoints: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    """Reads only the ``info`` that :func:`save` wrote."""
    return checkpoints.restore(step, args=ocp.args.Composite(info=ocp.args.JsonRestore()))["info"]


def load_arrays(checkpoint: pathlib.Path, field: str) -> PyTree:
    """Reads one field of a checkpoint as NumPy arrays, without knowing its structure.

    Args:
      checkpoint: the folder of one checkpoint, ``.../checkpoints/STEP``.
      field: which field of the saved train state.

    Returns:
      The field's pytree, with dictionaries in place of named tuples and lists in place of tuples.

    Raises:
      ValueError: the field holds no array.
    """
    path = checkpoint.resolve() / field
    if not path.exists():
        raise ValueError(f"'{checkpoint}' holds no arrays of '{field}': give another run.")
    options = _this_process()
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=options)
    with _quietly(), ocp.Checkpointer(handler, multiprocessing_options=options) as reader:
        saved = reader.metadata(path).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
        return reader.restore(path, args=ocp.args.PyTreeRestore(restore_args=as_numpy))[field]


def set_aside_unreadable(directory: pathlib.Path, like: PyTree) -> list[str]:
    """Moves unreadable checkpoints out of their folder, to a place beside it.

    Args:
      directory: the folder of checkpoints, not open.
      like: the whole train state, as for :func:`load`; a checkpoint with any unreadable field is
        moved.

    Returns:
      A sentence for each checkpoint that was moved.

    Raises:
      ValueError: no checkpoint can be read; then none is moved.
    """
    steps = [path for path in directory.glob("*") if path.name.isdigit() and is_primary()]
    on_host = SingleDeviceSharding(_host_device())
    options = _this_process()
    broken = {}
    for path in steps:
        try:
            handler = ocp.CompositeCheckpointHandler(
                composite_options=ocp.CompositeOptions(multiprocessing_options=options)
            )
            with ocp.Checkpointer(handler, multiprocessing_options=options) as reader:
                reader.restore(path.resolve(), args=_restore_args(like, lambda _: on_host))
            if (path / "metrics").exists():
                json.loads((path / "metrics" / "metrics").read_text())
        except Exception as error:  # of many types
            broken[path] = textwrap.shorten(str(error), 100)
    if broken and len(broken) == len(steps):
        raise ValueError(
            f"No checkpoint in '{directory}' can be read ({broken[steps[0]]}): resume with the "
            "versions that wrote them, or give another workdir."
        )
    sentences = []
    for path, reason in broken.items():
        aside = tempfile.mkdtemp(prefix=f"unreadable-{path.name}-", dir=directory.parent)
        path.rename(aside)
        sentences.append(f"Checkpoint {path.name} cannot be read ({reason}): moved to '{aside}'.")
    barrier("looking through checkpoints")
    return sentences


def _host_device() -> jax.Device:
    """The CPU if jax has one: what is sharded over all devices may not fit on one of them."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]


def _this_process() -> ocp.options.MultiprocessingOptions:
    """Options with which this process reads without waiting for others."""
    index = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"only{index}"
    )


def _items(train_state: Any) -> dict[str, PyTree]:
    """The items of a checkpoint: a tree for each field that holds an array.

    Orbax saves neither a tree without arrays nor an array without a tree; hence the dictionary.
    """
    fields = train_state._asdict()
    return {name: {name: field} for name, field in fields.items() if jax.tree.leaves(field)}


def _restore_args(like: Any, sharding: Callable[[Any], Sharding]) -> ocp.args.Composite:
    # An explicit sharding: orbax's default is the writer's, whose devices may not exist here.
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding(leaf)), like
    )
    items = {name: ocp.args.StandardRestore(item) for name, item in _items(abstract).items()}
    return ocp.args.Composite(info=ocp.args.JsonRestore(), **items)
