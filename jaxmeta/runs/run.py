"""From a config to a trained and evaluated run, without flags: in a notebook, or in a sweep."""

import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.data import StreamedSampler, stream
from jaxmeta.distributed.parallel import (
    SPREADS,
    by_shard_map,
    devices_for,
    layout,
    layout_of_tasks,
    local_tasks,
    replicate,
    spread_by,
    to_global_array,
)
from jaxmeta.distributed.processes import say
from jaxmeta.evaluate import Evaluation, summarize
from jaxmeta.runs import checkpoint, config, tasks, workdir
from jaxmeta.runs.fit import fit
from jaxmeta.runs.init_from import graft, read_params
from jaxmeta.runs.measure import Judged, judged, measure
from jaxmeta.runs.spec import EVERYTHING
from jaxmeta.runs.writers import CollapseWarning, JsonLines, ProgressBar, TensorBoard, Writer
from jaxmeta.train import (
    TrainState,
    Update,
    init_carry,
    init_train_state,
    outer_loop,
    streamed_loop,
)
from jaxmeta.types import Key, Metrics, PyTree, Source

Scores = Callable[[TrainState, PyTree, Key], Metrics]
"""``(train state, data, key) -> values of each episode``, by metric name."""


class Run(NamedTuple):
    """All that a config describes, checked before anything is compiled.

    Attributes:
      config: the complete config.
      folder: the run's folder.
      sources: by split, with their data on the devices.
      outer: the outer loop as one program.
      update: what is run: that loop, or one over data that are read ahead.
      data_from: ``(step) -> data``, for ``update``.
      validate: evaluates a train state.
      train_state: the train state before the first step.
      key: the training key.
      notes: what a user should know, in sentences.
    """

    config: Mapping[str, Any]
    folder: pathlib.Path
    sources: Mapping[str, Source]
    outer: Update
    update: Update
    data_from: Callable[[int], Any]
    validate: Callable[[TrainState], dict[str, Evaluation]]
    train_state: TrainState
    key: Key
    notes: Sequence[str]


def run(
    given: Mapping[str, Any],
    folder: str | os.PathLike[str],
    *,
    data_dir: str | None = None,
    writers: Sequence[Writer] | None = None,
) -> dict[str, Any]:
    """Trains what a config describes, or resumes training, and evaluates it on the test split.

    Args:
      given: the config; see :mod:`jaxmeta.runs.config`. Its functions are trusted.
      folder: the run's folder. Called again with the same config, it resumes from the last
        checkpoint there. What a user should know, such as parameters of another run that have no
        place in this one, is printed to stderr.
      data_dir: the folder of data sets, for those that are read from one.
      writers: what metrics are passed to; by default a progress bar, ``metrics.jsonl`` and
        TensorBoard's ``events`` in the folder, and a warning on stderr if outputs collapse.

    Returns:
      The result, which is also written to ``result.json``.

    Raises:
      ValueError: a mistake in the config; then nothing has been trained.
      Diverged, Stopped, OSError: as for :func:`jaxmeta.runs.fit`.

    >>> import tempfile
    >>> from jaxmeta.runs import restore
    >>> error = {"function": "jaxmeta.losses.squared_error"}
    >>> config = {
    ...     "data": {"make": "jaxmeta.data.sinusoid"},
    ...     "model": {"make": "jaxmeta.nn.mlp", "outputs": 1, "hidden": [4]},
    ...     "learner": {"make": "jaxmeta.learners.maml", "loss": error},
    ...     **{"loss": error, "metrics": {"error": error}, "higher_is_better": False},
    ...     **{"ways": 1, "shots": 5, "queries": 5, "steps": 2, "meta_batch": 2},
    ...     "evaluation": {"validation_episodes": 2, "episodes": 2},
    ... }
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = run(config, folder, writers=[])
    ...     learner, params, state = restore(folder)
    >>> result["evaluations"]["trained"]["metrics"]["error"]["mean"] > 0
    True
    """
    prepared = prepare(given, folder, data_dir)
    for note in prepared.notes:
        say(note)
    train(prepared, writers)
    result = measure(prepared.folder, prepared.sources, "test", trust=EVERYTHING)
    workdir.write_atomically(prepared.folder / "result.json", json.dumps(result, indent=2) + "\n")
    return result


def train(prepared: Run, writers: Sequence[Writer] | None = None) -> TrainState:
    """Takes the remaining steps; see :func:`jaxmeta.runs.fit`."""
    settings, folder = prepared.config, prepared.folder
    return fit(
        prepared.update,
        prepared.train_state,
        prepared.data_from,
        prepared.key,
        folder=folder,
        steps=settings["steps"],
        log_every=settings["log_every"],
        validate=prepared.validate,
        validate_every=settings["evaluation"]["every"],
        higher_is_better=settings["higher_is_better"],
        writers=default_writers(prepared) if writers is None else writers,
    )


def default_writers(prepared: Run) -> list[Writer]:
    """A progress bar, JSON lines and TensorBoard, and a warning if outputs collapse."""
    folder, first = prepared.folder, next(iter(config.evaluation_of(prepared.config)["metrics"]))
    return [
        ProgressBar(prepared.config["steps"], ("train/loss", f"validation/{first}")),
        JsonLines(folder / "metrics.jsonl"),
        TensorBoard(folder / "events"),
        CollapseWarning(),
    ]


def prepare(
    given: Mapping[str, Any],
    folder: str | os.PathLike[str],
    data_dir: str | None = None,
    spread: str = SPREADS[0],
    shards: int = 1,
) -> Run:
    """Builds a run and claims its folder; every mistake in a config is found here.

    Args:
      given: the config.
      folder: the run's folder.
      data_dir: the folder of data sets.
      spread: how tasks are spread over devices, as for
        :func:`jaxmeta.distributed.parallel.spread_by`.
      shards: number of devices over which parameters are sharded.

    Raises:
      ValueError: a mistake in the config, or the folder holds another run.
    """
    settings, folder = config.complete(given), pathlib.Path(folder)
    sources = tasks.load_sources(settings, data_dir)
    settings = tasks.with_classes(settings, sources["train"])
    sample = tasks.training_sampler(sources["train"], settings)
    first, *others = settings["evaluations"]
    validated = judged(settings, first, sources, "valid", EVERYTHING)
    tested = {
        name: judged(settings, name, sources, "test", EVERYTHING) for name in (first, *others)
    }
    watched = [name for name in others if config.evaluation_of(settings, name)["split"] is not None]
    objective = config.build_objective(settings, EVERYTHING)
    estimator = config.build_estimator(settings, EVERYTHING)
    optimizer = config.build_optimizer(settings, EVERYTHING)
    meta_batch = settings["meta_batch"]
    devices = devices_for(meta_batch) if shards == 1 else jax.devices()
    over = spread_by(spread, devices, shards)
    options = {"estimator": estimator, "chunk": settings["chunk"], "spread": over}
    outer = outer_loop(objective, optimizer, sample, meta_batch, **options)
    keys = tasks.run_streams(settings)
    here = sources["train"].data
    sources = {
        split: source._replace(data=replicate(source.data, devices))
        for split, source in sources.items()
    }
    data, valid = sources["train"].data, sources[validated.split].data
    shapes = workdir.Shapes(
        jax.eval_shape(sample, data, keys.train),
        jax.eval_shape(validated.sample, valid, keys.valid),
    )
    notes = _idle(devices, meta_batch)

    def initial(params: PyTree | None = None) -> TrainState:
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes.task)
        # Parameters of another run are set before the carry and the optimizer, which may copy them.
        own, state = objective.init(keys.init, zeros)
        params = own if params is None else params
        carry = init_carry(objective, params, state, sample, data, keys.carry, meta_batch)
        return init_train_state(optimizer, params, state, carry)

    # The train state is never whole on one device, where it may not fit.
    abstract = jax.eval_shape(initial)
    laid_out = layout(abstract, devices, shards)._replace(
        carry=layout_of_tasks(abstract.carry, meta_batch, devices, shards)
    )
    begin = jax.jit(initial, out_shardings=laid_out)
    train_state = begin()
    # A resumed run has parameters of its own, and the other run may no longer exist.
    if settings["init_from"] and not checkpoint.any_saved(folder / "checkpoints"):
        params, more = _from_others(settings["init_from"], train_state.params)
        train_state, notes = begin(params), [*notes, *more]

    # Traced here so that their checks of shapes and types come early.
    jax.eval_shape(lambda state: outer(state, data, keys.train, 1), train_state)
    scores = _scores(settings, first, validated, "validation_episodes", devices, shards)
    jax.eval_shape(scores, train_state, valid, keys.valid)
    programs = {
        name: _scores(settings, name, tested[name], "episodes", devices, shards) for name in others
    }
    for name, program in programs.items():
        jax.eval_shape(program, train_state, sources[tested[name].split].data, keys.test)
    trained = settings["learner"] or settings["objective"]
    tasks.check_drawn_labels(sample, data, trained.get("ways"))
    for tried in (validated, tested[first]):
        tasks.check_drawn_labels(tried.sample, sources[tried.split].data, tried.spec.get("ways"))
    workdir.claim_folder(folder, settings, shapes)
    notes = [*notes, *checkpoint.set_aside_unreadable(folder / "checkpoints", train_state)]

    def validate(train_state: TrainState) -> dict[str, Evaluation]:
        seen = scores(train_state, valid, keys.valid)
        # In the config's order, as compiled programs sort names.
        summaries = {name: summarize(seen[name]) for name in validated.metrics}
        for name in watched:
            split = tested[name].split
            key = tasks.evaluation_key(settings, split)
            seen = programs[name](train_state, sources[split].data, key)
            for metric in tested[name].metrics:
                summaries[f"{name}_{metric}"] = summarize(seen[metric])
        return summaries

    def data_from(step: int) -> Any:
        if not isinstance(sample, StreamedSampler):
            return data
        onto = partial(to_global_array, tasks=meta_batch, devices=devices, shards=shards)
        own = local_tasks(meta_batch, devices, shards)
        return stream(sample, here, keys.train, meta_batch, step, settings["steps"], own, onto)

    update = outer
    if isinstance(sample, StreamedSampler):
        update = streamed_loop(objective, optimizer, sample, meta_batch, **options)
    return Run(
        settings,
        folder,
        sources,
        outer,
        update,
        data_from,
        validate,
        train_state,
        keys.train,
        notes,
    )


def _scores(
    settings: Mapping[str, Any],
    name: str,
    tried: Judged,
    episodes: str,
    devices: Sequence[jax.Device],
    shards: int,
) -> Scores:
    """The program of an evaluation; ``episodes`` names the field of ``evaluation`` to take."""
    wanted, over = config.evaluation_of(settings, name), by_shard_map(devices, shards)
    count, chunk = settings["evaluation"][episodes], settings["chunk"]
    of_learner = tried.program(count, chunk, over)

    def of_train_state(train_state: TrainState, data: PyTree, key: Key) -> Metrics:
        parts = workdir.evaluated_parts(wanted, train_state.params, train_state.state)
        try:
            return of_learner(*parts, data, key)
        except KeyError as error:
            raise ValueError(
                f"The learner of config.evaluations.{name} finds no {error} in the parameters: set "
                f"config.evaluations.{name}.params to the part that it is to be given."
            ) from error

    return of_train_state


def _idle(devices: Sequence[jax.Device], meta_batch: int) -> list[str]:
    """A sentence if some devices have nothing to do."""
    if len(devices) == jax.device_count():
        return []
    return [
        f"Training on {len(devices)} of {jax.device_count()} devices: with more, none would have "
        f"fewer of the {meta_batch} tasks of a step."
    ]


def _from_others(given: Mapping[str, Any], params: PyTree) -> tuple[PyTree, list[str]]:
    """Parameters, some of which come from another run, and sentences on what was left over."""
    unknown = set(given) - {"workdir", "at", "take"}
    if "workdir" not in given or unknown:
        raise ValueError(
            f"config.init_from has the fields {', '.join(sorted(given))}: give the `workdir` of a "
            "run and, where parts differ in name, what to `take` from it and where it is `at`."
        )
    other, step = read_params(given["workdir"])
    grafted = graft(params, other, given.get("at", ""), given.get("take", ""))
    notes = [f"Parameters come from step {step} of '{given['workdir']}'."]
    if grafted.kept:
        notes.append(f"It has none for {', '.join(grafted.kept)}, which start anew.")
    if grafted.unused:
        notes.append(f"Its {', '.join(grafted.unused)} have no place here.")
    return grafted.params, notes
