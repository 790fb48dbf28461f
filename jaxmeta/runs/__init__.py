"""A run: from a config to a trained, evaluated and restored learner."""

from jaxmeta.runs.fit import Diverged, Stopped, fit
from jaxmeta.runs.init_from import graft, read_params
from jaxmeta.runs.run import prepare, run, train
from jaxmeta.runs.spec import EVERYTHING, build
from jaxmeta.runs.workdir import Restored, restore
from jaxmeta.runs.writers import CollapseWarning, JsonLines, ProgressBar, TensorBoard, Writer

__all__ = [
    "EVERYTHING",
    "CollapseWarning",
    "Diverged",
    "JsonLines",
    "ProgressBar",
    "Restored",
    "Stopped",
    "TensorBoard",
    "Writer",
    "build",
    "fit",
    "graft",
    "prepare",
    "read_params",
    "restore",
    "run",
    "train",
]
