"""What a run's model makes of the images of its data, for experiments on features."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxmeta import probes
from jaxmeta.runs import tasks, workdir
from jaxmeta.runs.config import build_model, learner_spec, name_of

from .judging.runs import examples as all_in_memory

Features = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""By split: the features ``[n, d]`` and their classes ``[n]``."""


def features_of(
    folder: Path,
    splits: Sequence[str],
    data_dir: str | None = None,
    trust: Sequence[str] = (),
    checkpoint: str = "best",
) -> Features:
    """The features of a run's images, and their classes.

    Running averages normalize them if they do in the run's first evaluation, and otherwise
    statistics of all training images.

    Args:
      folder: folder of the run.
      splits: which of its splits.
      data_dir: folder of the data.
      trust: packages whose functions the run's config may name.
      checkpoint: ``"best"``, by validation tasks, or ``"last"``.

    Raises:
      ValueError: there is no such run, or its data are clusters.
    """
    config = workdir.read_config(folder)
    if name_of(config["data"]) == "pseudo_labeled":
        raise ValueError(
            f"The data of '{folder}' are clusters already, which are in another order than the "
            "data set: give a run on the data set itself."
        )
    if name_of(learner_spec(config)) == "embedded":
        raise ValueError(
            f"The learner of '{folder}' has a network in front of another learner, so that its "
            "features are not those of config.model: give the run that trained the features."
        )
    sources = tasks.load_sources(config, data_dir, tuple(trust))
    restored, _ = workdir.load_trained(folder, trust=tuple(trust), checkpoint=checkpoint)
    model, params, state = (
        build_model(config, tuple(trust)),
        restored.params["model"],
        restored.state,
    )
    if learner_spec(config).get("normalization") != "running":  # it has no averages of its own
        state = probes.statistics(model, params, state, all_in_memory(sources["train"]).x)
    found = {}
    for split in splits:
        examples = all_in_memory(sources[split])
        outputs = probes.features(model, params, state, examples.x)
        rows = outputs.reshape(len(outputs), -1)  # of maps, too
        found[split] = (np.asarray(rows), np.asarray(examples.y))
    return found


def write(folder: Path, found: Features) -> Path:
    """Writes ``features.npz`` into a folder, for :func:`jaxmeta.data.features`."""
    path = folder / "features.npz"
    temporary = folder / "features.tmp.npz"
    arrays: dict[str, Any] = {
        f"{split}_{name}": array
        for split, pair in found.items()
        for name, array in zip("xy", pair, strict=True)
    }
    np.savez(temporary, **arrays)
    return temporary.replace(path)
