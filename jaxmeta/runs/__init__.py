"""A run: its specs, its checkpoints, its folder."""

from jaxmeta.runs.workdir import Restored, restore

__all__ = ["Restored", "restore"]
