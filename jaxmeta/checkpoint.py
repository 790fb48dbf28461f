"""Checkpoints by orbax: the latest two, and the best by validation.

Orbax writes into a temporary folder and renames it when everything is on disk, so a crash never
leaves a broken checkpoint as the latest.
"""

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from jaxmeta.types import PyTree


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
    validation: float | None = None,
) -> None:
    """Writes a pytree of arrays and a JSON-able dictionary beside it; an existing step is kept."""
    if step in checkpoints.all_steps():
        return
    checkpoints.save(
        step,
        args=ocp.args.Composite(tree=ocp.args.StandardSave(tree), info=ocp.args.JsonSave(info)),
        metrics=None if validation is None else {"validation": validation},
        force=True,
    )


def load(
    checkpoints: ocp.CheckpointManager, step: int, like: PyTree
) -> tuple[PyTree, dict[str, Any]]:
    """Reads what :func:`save` wrote.

    Args:
      checkpoints: an open folder.
      step: which one.
      like: a pytree of arrays or of ``jax.ShapeDtypeStruct``, giving the structure.
    """
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    loaded = checkpoints.restore(
        step,
        args=ocp.args.Composite(
            tree=ocp.args.StandardRestore(abstract), info=ocp.args.JsonRestore()
        ),
    )
    return loaded["tree"], loaded["info"]
