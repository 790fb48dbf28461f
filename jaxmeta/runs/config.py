"""Configs: their fields, the defaults, and how their parts become functions.

A config is a dictionary of *specs* (:mod:`jaxmeta.runs.spec`) and numbers. It names

- ``data``, the sources of tasks; ``ways``, ``shots`` and ``queries`` of the evaluation episodes;
  and ``sample``, what to train on: episodes, given the fields that differ from the evaluation's;
  episodes whose classes are single examples, ``{"instances": True}``; batches of examples,
  ``{"batches": 64}``; either of several tasks in turn or, with an ``exponent``, by their sizes; or
  a sampler that a function makes from the ``source`` or from another ``sample``,
  ``{"make": "mine.pairs", "sample": {"batches": 64}}``;
- ``model``, ``learner``, ``loss``, ``metrics`` (by name; the first chooses the checkpoint),
  ``objective`` and ``estimator``. If a function takes an argument of one of these names and its
  spec leaves it out, it is filled in: ``{"make": "jaxmeta.objectives.episodic"}`` is an objective.
  The number of ``classes`` of the training split is filled in likewise;
- ``optimizer``, and ``rates``, factors of its updates for named parts of the parameters: 0 freezes
  a part, whose gradient still counts when gradients are clipped by their norm;
- ``init_from``, named parts of the parameters that come from another run; the objective's state
  still starts from its ``init``;
- ``evaluations``, by name: arguments of the learner that differ, or another learner; the first is
  used for validation, and chooses the checkpoint. With ``shots`` of 0 there is no support set, and
  every example of the split is predicted once, ``queries`` at a time or, if there are several
  tasks, task by task, and the result also has each one's metrics. With a ``split`` of its own,
  an evaluation is on that split, and is also measured at each validation, without choosing. With
  ``outside``, its episodes have so many queries of none of the ways;
- ``evaluation.checkpoint``, ``"best"`` or ``"last"``: which checkpoint the result is of.

Order matters where the first of several is chosen: a ``ConfigDict`` keeps it with
``sort_keys=False``.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import optax

from jaxmeta.gradients import Estimator
from jaxmeta.inner import with_rates
from jaxmeta.nn import mixed_precision
from jaxmeta.runs.config_checks import check_config, check_fields, check_names, plain
from jaxmeta.runs.spec import build, suggest
from jaxmeta.types import Learner, Loss, Model, Objective

Made = TypeVar("Made")

DEFAULTS: dict[str, Any] = {
    "seed": 0,
    "steps": 10_000,
    "meta_batch": 32,
    "log_every": 50,
    "mixed_precision": False,
    "chunk": None,
    "learner": None,
    "sample": {},
    "objective": {"make": "jaxmeta.objectives.episodic"},
    "estimator": None,
    "optimizer": {"make": "optax.adam", "learning_rate": 1e-3},
    "rates": {},
    "init_from": {},
    "evaluation": {
        "every": 500,
        "validation_episodes": 200,
        "episodes": 600,
        "seed": 0,
        "checkpoint": "best",
    },
    "evaluations": {"trained": {}},
    "higher_is_better": True,
}
NEEDED = ("data", "model", "loss", "metrics", "ways", "shots", "queries")


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with its defaults filled in, as plain dictionaries, and its counts checked.

    Args:
      config: dictionaries, or a ``ConfigDict`` of ml_collections, whose references are resolved.

    Raises:
      ValueError: a field is missing or unknown, a count is too small, or two counts do not fit
        together.
    """
    given: dict[str, Any] = plain(config, "config")
    check_fields("config", given)
    fields = {**DEFAULTS, **given}
    for field in NEEDED:
        if field not in fields:
            raise ValueError(f"The config has no field '{field}': add it.")
    check_names("config", given, (*DEFAULTS, *NEEDED))
    check_fields("config.evaluation", fields["evaluation"])
    check_names("config.evaluation", fields["evaluation"], tuple(DEFAULTS["evaluation"]))
    fields["evaluation"] = {**DEFAULTS["evaluation"], **fields["evaluation"]}
    check_config(fields)
    return fields


def build_model(config: Mapping[str, Any], trust: Sequence[str] = ()) -> Model:
    """The model, computing in the precision that the config asks for.

    >>> config = {"model": {"make": "jaxmeta.nn.mlp", "outputs": 3}, "mixed_precision": True}
    >>> type(build_model(config)).__name__
    'Model'
    """
    model = made(Model, "model", config["model"], trust)
    return mixed_precision(model) if config.get("mixed_precision") else model


def build_metrics(config: Mapping[str, Any], trust: Sequence[str] = ()) -> dict[str, Loss]:
    """The metrics by name, in the config's order."""
    return {
        name: made_function(f"metrics.{name}", spec, trust)
        for name, spec in config["metrics"].items()
    }


def build_objective(config: Mapping[str, Any], trust: Sequence[str] = ()) -> Objective:
    """The objective, built from the config's model, learner, loss and metrics."""
    shared: dict[str, Any] = {"model": build_model(config, trust)}
    if config["learner"] is not None:
        shared["learner"] = made(Learner, "learner", config["learner"], trust, shared)
    shared["loss"] = made_function("loss", config["loss"], trust)
    shared["metrics"] = build_metrics(config, trust)
    return made(Objective, "objective", config["objective"], trust, shared)


def build_estimator(config: Mapping[str, Any], trust: Sequence[str] = ()) -> Estimator | None:
    """The estimator of the gradient; ``None`` for the mean."""
    if not config["estimator"]:
        return None
    return made(Estimator, "estimator", config["estimator"], trust)


def build_optimizer(
    config: Mapping[str, Any], trust: Sequence[str] = ()
) -> optax.GradientTransformation:
    """The outer optimizer, with separate rates for parts of the parameters."""
    optimizer = made(optax.GradientTransformation, "optimizer", config["optimizer"], trust)
    return with_rates(optimizer, config["rates"])


def made(
    kind: type[Made],
    field: str,
    spec: Mapping[str, Any],
    trust: Sequence[str] = (),
    fill: Mapping[str, Any] | None = None,
) -> Made:
    """Builds the spec in a field, whose result must be of type ``kind``.

    Raises:
      ValueError: the result is of another type, or cannot be built.

    >>> made(Model, "model", {"make": "optax.sgd", "learning_rate": 0.1})
    Traceback (most recent call last):
    ValueError: config.model makes what is no Model but a GradientTransformation...: name a ...
    """
    value = build(spec, trust, fill)
    if not isinstance(value, kind):
        raise ValueError(
            f"config.{field} makes what is no {kind.__name__} but a {type(value).__name__}: name a "
            "function that returns one."
        )
    return value


def made_function(field: str, spec: Mapping[str, Any], trust: Sequence[str]) -> Loss:
    """A function of outputs, labels and mask, either named itself or made by another."""
    reason = "it makes none"
    try:
        function: Loss = build(spec, trust)
        if callable(function):
            return function
    except ValueError as error:
        if "make" not in spec or "'outputs'" not in str(error):
            raise
        reason = "what it makes would need outputs, which come later"
    raise ValueError(
        f"config.{field} names '{spec.get('make')}' as what makes a function, and {reason}: to "
        "name the function itself, write {'function': ...}."
    )


def evaluation_of(config: Mapping[str, Any], name: str | None = None) -> dict[str, Any]:
    """The fields of an evaluation, completed from the config; the first if none is named.

    Raises:
      ValueError: there is no evaluation of this name.
    """
    evaluations = config["evaluations"]
    name = next(iter(evaluations)) if name is None else name
    if name not in evaluations:
        raise ValueError(f"There is no evaluation '{name}': {suggest(name, evaluations)}.")
    shared = {field: config[field] for field in ("metrics", "ways", "shots", "queries")}
    own: dict[str, Any] = {"learner": {}, "params": "", "state": "", "split": None, "outside": 0}
    return {**own, **shared, **evaluations[name]}


def learner_spec(
    config: Mapping[str, Any], name: str | None = None, changes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The spec of an evaluated learner, which may differ from the one that is trained.

    The evaluation's ``learner`` holds the arguments that differ, or a whole spec of its own if it
    names a function under ``make``; ``changes`` alter the result in the same way.

    >>> config = {"learner": {"make": "mine.solve", "steps": 1}, "evaluations": {"longer": {}}}
    >>> config |= {"metrics": {}, "ways": 5, "shots": 1, "queries": 15}
    >>> learner_spec(config, changes={"steps": 10})
    {'make': 'mine.solve', 'steps': 10}
    """
    changes = changes or {}
    if "make" in changes:
        return dict(changes)
    own = evaluation_of(config, name)["learner"]
    spec = dict(own) if "make" in own else _merged(config["learner"] or {}, own)
    if "make" not in spec:
        raise ValueError(
            "The config trains no learner, so that its evaluations need one each: set "
            "config.evaluations.NAME.learner.make."
        )
    if "ways" in changes and ways_of(spec) is not None:
        changes = {**changes, "ways": max(changes["ways"], ways_of(spec))}
    return _merged(spec, changes)


def ways_of(spec: Mapping[str, Any]) -> int | None:
    """The ways of a learner, or of the one that it is made of, as ``rejecting`` is of another."""
    inner = spec.get("learner")
    return ways_of(inner) if isinstance(inner, Mapping) else spec.get("ways")


def _merged(spec: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with changes; ``ways`` belong to the innermost learner."""
    inner = spec.get("learner")
    if isinstance(inner, Mapping) and "learner" not in changes and "ways" in changes:
        others = {name: value for name, value in changes.items() if name != "ways"}
        return {**spec, "learner": _merged(inner, {"ways": changes["ways"]}), **others}
    return {**spec, **changes}


def build_learner(
    config: Mapping[str, Any], spec: Mapping[str, Any], trust: Sequence[str] = ()
) -> Learner:
    """The learner of a spec, on the config's model."""
    return made(Learner, "learner", spec, trust, {"model": build_model(config, trust)})


def name_of(spec: Mapping[str, Any]) -> str:
    """The last part of the dotted name that a spec holds.

    >>> name_of({"make": "jaxmeta.learners.maml", "steps": 1})
    'maml'
    """
    dotted: str = spec["function"] if "function" in spec else spec["make"]
    return dotted.rpartition(".")[2]
