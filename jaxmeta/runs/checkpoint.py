"""Checkpoints by orbax: the latest two, and the best by validation.

Orbax writes into a temporary folder and renames it when everything is written, so a killed process
never leaves a broken checkpoint. A failing disk or a power cut may: :func:`set_aside_unreadable`.
"""

import json
import math
import pathlib
import tempfile
import textwrap
from collections.abc import Callable
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import Sharding, SingleDeviceSharding
from orbax.checkpoint.checkpoint_managers import preservation_policy

from jaxmeta.distributed.processes import barrier, is_primary, shared_sharding
from jaxmeta.types import PyTree

# Of several processes, the first reads without waiting for the others.
ALONE = ocp.CompositeOptions(
    multiprocessing_options=ocp.options.MultiprocessingOptions(
        primary_host=0, active_processes={0}, barrier_sync_key_prefix="alone"
    )
)


def open_checkpoints(directory: pathlib.Path, higher_is_better: bool) -> ocp.CheckpointManager:
    """Opens (or makes) a folder of checkpoints; close it, or use it in a ``with`` statement."""

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
            cleanup_tmp_directories=True,
            # A save returns when it is on disk: what was reported as saved is saved.
            enable_async_checkpointing=False,
        ),
    )


def save(
    checkpoints: ocp.CheckpointManager,
    step: int,
    tree: PyTree,
    info: dict[str, Any],
    validation: float = math.nan,
) -> None:
    """Writes a pytree of arrays and a JSON-able dictionary beside it; an existing step is kept.

    A validation that is not finite cannot be the best: it counts as none.

    Raises:
      OSError: it could not be written, as on a disk that is full; earlier ones are as they were.
    """
    if step in checkpoints.all_steps():
        return
    kept = checkpoints.latest_step()
    try:
        checkpoints.save(
            step,
            args=ocp.args.Composite(tree=ocp.args.StandardSave(tree), info=ocp.args.JsonSave(info)),
            metrics=None if not math.isfinite(validation) else {"validation": validation},
            force=True,
        )
    except jax.errors.JaxRuntimeError:  # another process was lost
        raise
    except Exception as error:  # of many types
        resumes = "starts anew" if kept is None else f"resumes from step {kept}"
        raise OSError(
            f"Step {step} could not be saved in '{checkpoints.directory}' "
            f"({textwrap.shorten(str(error), 300)}): make room on the disk, or see what ails it, "
            f"and run the same command, which {resumes}."
        ) from error


def load(
    checkpoints: ocp.CheckpointManager, step: int, like: PyTree
) -> tuple[PyTree, dict[str, Any]]:
    """Reads what :func:`save` wrote.

    Args:
      checkpoints: an open folder.
      step: which one.
      like: a pytree of arrays or of ``jax.ShapeDtypeStruct``, giving the structure, and where they
        have a sharding, where to.
    """
    here = shared_sharding()
    args = _restore_args(like, lambda leaf: getattr(leaf, "sharding", None) or here)
    loaded = checkpoints.restore(step, args=args)
    return loaded["tree"], loaded["info"]


def set_aside_unreadable(directory: pathlib.Path, like: PyTree) -> list[str]:
    """Moves checkpoints that cannot be read out of a folder, beside it; loses nothing.

    Args:
      directory: the folder of checkpoints, not open.
      like: as for :func:`load`.

    Returns:
      A sentence for each that was moved.

    Raises:
      ValueError: none can be read; then none is moved.
    """
    steps = [path for path in directory.glob("*") if path.name.isdigit() and is_primary()]
    alone = SingleDeviceSharding(_roomiest())
    broken = {}
    for path in steps:
        try:
            handler = ocp.CompositeCheckpointHandler(composite_options=ALONE)
            options = ALONE.multiprocessing_options
            with ocp.Checkpointer(handler, multiprocessing_options=options) as reader:
                reader.restore(path.resolve(), args=_restore_args(like, lambda _: alone))
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


def _roomiest() -> jax.Device:
    """The host's memory, where jax knows of it: what is on all devices may not fit on one."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]


def _restore_args(like: PyTree, sharding: Callable[[Any], Sharding]) -> ocp.args.Composite:
    # A sharding of our own: orbax's default is that of the writer, whose devices may not be here.
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding(leaf)), like
    )
    return ocp.args.Composite(tree=ocp.args.StandardRestore(abstract), info=ocp.args.JsonRestore())
