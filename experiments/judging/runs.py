"""Loading runs and the images that their features are judged on."""

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxmeta import probes
from jaxmeta.data.choices import ClassData, class_data
from jaxmeta.data.words import LookedUp
from jaxmeta.runs import tasks, workdir
from jaxmeta.runs.config import build_model, evaluation_of
from jaxmeta.types import Batch, Model, PyTree, Source

from ..configs import pretraining
from .types import Protocol, Run


def load_runs(folders: Sequence[str], protocol: Protocol) -> list[Run]:
    """Loads runs; those with the same model or the same data set share it."""
    configs = [workdir.read_config(Path(folder)) for folder in folders]
    split, trust = protocol.split, protocol.trust

    @functools.cache
    def sources_of(spec: str) -> dict[str, Source]:
        return tasks.load_sources({"data": json.loads(spec)}, protocol.data_dir, trust)

    @functools.cache
    def model_of(spec: str, mixed_precision: bool) -> Model:
        config = {"model": json.loads(spec), "mixed_precision": mixed_precision}
        return build_model(config, trust)

    loaded = [sources_of(json.dumps(config["data"])) for config in configs]
    for folder, sources in zip(folders, loaded, strict=True):
        jax.eval_shape(lambda source=sources[split]: probes.all_examples(source))
        if not alike(sources[split].data, loaded[0][split].data):
            raise ValueError(
                f"'{folder}' has another {split} split than '{folders[0]}': judge runs of the same "
                "data together, and others by a command of their own."
            )
    models = [model_of(json.dumps(each["model"]), each["mixed_precision"]) for each in configs]
    given = zip(folders, configs, loaded, models, strict=True)
    return [load_run(*each, trust, protocol.checkpoint) for each in given]


def alike(data: PyTree, other: PyTree) -> bool:
    """Whether two sources hold the same examples."""
    if repr(jax.tree.structure(data)) != repr(jax.tree.structure(other)):
        return False
    return all(map(np.array_equal, *map(jax.tree.leaves, (data, other))))


def load_run(
    folder: str,
    config: Mapping[str, Any],
    sources: Mapping[str, Source],
    model: Model,
    trust: Sequence[str],
    checkpoint: str,
) -> Run:
    """A checkpoint of a run, as its first evaluation receives it."""
    spec = transferring("nearest_mean", evaluation_of(config)["ways"])
    try:
        restored, info = workdir.load_trained(Path(folder), None, spec, trust, checkpoint)
    except KeyError as error:
        raise ValueError(
            f"The first evaluation of '{folder}' is given no model (there is no {error} in its "
            "parameters or its state): judge a run whose evaluations transfer features."
        ) from error
    params = {"model": restored.params["model"]}
    return Run(folder, config, sources, model, params, restored.state, info["step"])


def normalized_by(run: Run, statistics: str) -> str | None:
    """What normalizes a run's features if ``statistics`` are asked for; ``None`` if it keeps none.

    Before the first step there are no running averages, only what the model was initialized with.
    """
    if not jax.tree.leaves(run.state):
        return None
    return statistics if run.step > 0 else "clean"


def transferring(name: str, ways: int) -> dict[str, Any]:
    """The spec of a learner that normalizes features with the statistics in its state."""
    shared = {"ways": ways, "normalization": "running"}
    return pretraining.TRANSFERRED[name].to_dict() | shared


def examples(source: Source) -> Batch:
    """All examples of a source; of variants, which are classes of their own, only the first.

    Raises:
      ValueError: they are not in memory, or the source decodes them in a way of its own.
    """
    batch, variants = probes.all_examples(source), variants_of(source)
    if source.batches is None:
        return batch
    # Any example of a first variant that the source draws should be one of these.
    drawn = tasks.draw(source.batches(64), source.data, jax.random.key(0))
    labels, y = np.asarray(drawn.y), np.asarray(batch.y)
    ours, theirs = rows(batch.x), rows(drawn.x)
    for label, row in zip(labels, theirs, strict=True):
        own = ours[y == label // variants]
        if label % variants == 0 and not np.isclose(own, row, atol=1e-5).all(axis=1).any():
            raise ValueError(
                "The data decode their examples in a way of their own, which features of all of "
                "them cannot follow: give data whose examples are stored as the model takes them."
            )
    return batch


def variants_of(source: Source) -> int:
    """How many classes are made from each class, for example by quarter turns."""
    data = source.data.source if isinstance(source.data, LookedUp) else source.data
    return 1 if source.classes is None else source.classes // data.counts.size


def rows(x: PyTree) -> np.ndarray:
    """Inputs as one row of numbers each."""
    leaves = [np.asarray(leaf, np.float32) for leaf in jax.tree.leaves(x)]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


def thinned(source: Source, most: int) -> Source:
    """A source of at most ``most`` of its examples, evenly spaced; for :func:`examples` only."""
    data = source.data
    if isinstance(data, LookedUp):
        some = thinned(source._replace(data=data.source), most)
        return source._replace(data=data._replace(source=some.data))
    if not isinstance(data, ClassData) or not jax.tree.leaves(data.examples):
        return source
    counts = np.asarray(data.counts)
    kept = np.unique(np.linspace(0, counts.sum() - 1, most).round().astype(np.int64))
    classes = np.repeat(np.arange(counts.size), counts)[kept]
    some = jax.tree.map(lambda leaf: leaf[kept], data.examples)
    return source._replace(data=class_data(some, np.bincount(classes, minlength=counts.size)))
