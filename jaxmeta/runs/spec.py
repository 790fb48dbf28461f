"""From a dictionary to the object it names: how a config becomes functions.

A *spec* is a mapping with the dotted name of a function under ``make`` and its arguments beside it,
``{"make": "jaxmeta.nn.conv4", "filters": 64}``; a mapping
``{"function": "jaxmeta.losses.accuracy"}`` is that function itself. Specs nest, and nothing is
registered: any function can be named.

A spec read from somebody else's file must not run their code, so only the public functions of
jaxmeta and optax may be named, unless the caller trusts further packages. What is allowed is
decided from the name alone, before anything is imported, as importing a module runs it.
"""

import difflib
import functools
import importlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

EVERYTHING = ("*",)
"""The ``trust`` for specs that the caller wrote: anything that can be imported may be named."""

ROOMS = (
    *(
        "learners",
        "objectives",
        "pretraining",
        "domains",
        "multitask",
        "gradients",
        "nn",
        "inner",
        "data",
    ),
    "losses",
    "blocking_losses",
)
# The modules whose public functions may always be named. None of them runs a program, imports a
# module by name, unpickles or writes a file, except for the data sets below. The submodules of
# optax are those with transformations, schedules and losses.
PUBLIC = (
    *(f"jaxmeta.{room}" for room in ROOMS),
    *("optax", "optax.contrib", "optax.losses", "optax.projections", "optax.schedules"),
    *("optax.transforms", "optax.tree"),
)


DATA_SETS = tuple(
    f"jaxmeta.data.{name}"
    for name in (
        "cifar100_tasks",
        "cifar_fs",
        "clinc150_tasks",
        "fc100",
        "features",
        "fewrel",
        "folder",
        "load_images",
        "mnist",
        "mnist_m",
        "multi_mnist",
        "omniglot",
        "pseudo_labeled",
        "read_vectors",
        "review_domains",
        "review_shift",
        "review_tasks",
        "reviews",
        "short_texts",
        "texts",
        "usps",
        "vocabulary",
    )
)
"""Functions that read any folder, download or cache data: only a config's data may name them."""


def build(
    spec: Any,
    /,
    trust: Sequence[str] = (),
    fill: Mapping[str, Any] | None = None,
    *,
    data_sets: bool = False,
) -> Any:
    """Builds what a spec names.

    An argument named like the function's ``*args`` gives its positional arguments, as a list.

    Args:
      spec: a spec; lists and other values are returned with the specs inside them built.
      trust: packages (or modules) whose functions may be named besides the public ones of jaxmeta
        and optax; :data:`EVERYTHING` for your own specs.
      fill: arguments by name, for any function in the spec that takes one of this name but is not
        given it.
      data_sets: whether the spec may name one of :data:`DATA_SETS`.

    Returns:
      What the function returned.

    Raises:
      ValueError: the function does not exist, may not be named, or takes no such argument.

    >>> model = build({"make": "jaxmeta.nn.mlp", "outputs": 1, "hidden": [8]})
    >>> type(model).__name__
    'Model'
    >>> clipping = {"make": "optax.clip_by_global_norm", "max_norm": 1.0}
    >>> adam = {"make": "optax.adam", "learning_rate": 1e-3}
    >>> optimizer = build({"make": "optax.chain", "args": [clipping, adam]})
    >>> build({"function": "jaxmeta.losses.accuracy"}).__name__
    'accuracy'
    >>> build({"make": "os.system", "command": "true"})
    Traceback (most recent call last):
    ValueError: 'os.system' is in the package 'os', which is not trusted: ...
    """
    if isinstance(spec, Mapping):
        if set(spec) == {"function"}:
            return resolve(spec["function"], trust, data_sets)
        arguments = {
            name: build(value, trust, fill, data_sets=data_sets)
            for name, value in spec.items()
            if name != "make"
        }
        if "make" not in spec:
            return arguments
        function = resolve(spec["make"], trust, data_sets)
        return _call(spec["make"], function, arguments, fill or {})
    if isinstance(spec, list | tuple):
        return [build(value, trust, fill, data_sets=data_sets) for value in spec]
    return spec


def resolve(name: str, trust: Sequence[str] = (), data_sets: bool = False) -> Any:
    """The object with a dotted name.

    Args:
      name: as in ``"jaxmeta.nn.mlp"``.
      trust: as for :func:`build`.
      data_sets: as for :func:`build`.

    Raises:
      ValueError: there is no such object, or it may not be named.

    >>> resolve("optax.adam").__name__
    'adam'
    """
    if isinstance(trust, str):
        raise ValueError(f"trust is '{trust}': give a tuple of packages, as in ('{trust}',).")
    parts = name.split(".") if isinstance(name, str) else []
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise ValueError(f"'{name}' cannot be imported: give the dotted name of a function.")
    module_name, _, attribute = name.rpartition(".")
    trusted = any(
        package == "*" or f"{name}.".startswith(f"{package}.") for package in trust if package
    )
    if not trusted and module_name not in PUBLIC:
        raise ValueError(_refusal(name))
    if not trusted and not data_sets and name in DATA_SETS:
        raise ValueError(f"'{name}' is a data set: only the data of a run may be named so.")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"'{name}' cannot be imported ({error}): give the dotted name of a function."
        ) from error
    # What a public module imports for its own use leads to other modules, so it may not be named.
    public = _public_names(module, module_name)
    if attribute not in public and not (trusted and hasattr(module, attribute)):
        raise ValueError(f"'{module_name}' has no '{attribute}': {suggest(attribute, public)}.")
    return getattr(module, attribute)


def suggest(word: str, words: Iterable[str]) -> str:
    """What somebody may have meant by a word: similar words, or else all of them.

    >>> suggest("lerning_rate", ["learning_rate", "momentum"])
    'the near ones are learning_rate'
    """
    candidates = [candidate for candidate in words if not candidate.startswith("_")]
    if not candidates:
        return "there are none"
    near = difflib.get_close_matches(word, candidates, n=3, cutoff=0.5)
    return f"the near ones are {', '.join(near)}" if near else f"choose {', '.join(candidates)}"


def _call(name: str, function: Any, arguments: dict[str, Any], fill: Mapping[str, Any]) -> Any:
    """Calls a function after checking that it takes the arguments."""
    if not callable(function):
        raise ValueError(f"'{name}' is not a function: give the dotted name of one.")
    parameters = inspect.signature(function).parameters
    arguments = {name: fill[name] for name in fill if name in parameters} | arguments
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for argument in arguments:
        if argument not in parameters and not takes_any:
            raise ValueError(
                f"{name} takes no argument '{argument}': {suggest(argument, parameters)}."
            )
    positional: Sequence[Any] = []
    for parameter in parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional = arguments.pop(parameter.name, [])
            if not isinstance(positional, list):
                raise ValueError(f"{name} takes a list as '{parameter.name}': put it in brackets.")
        required = parameter.default is parameter.empty and parameter.kind in (
            parameter.POSITIONAL_OR_KEYWORD,
            parameter.KEYWORD_ONLY,
        )
        if required and arguments.get(parameter.name) is None:
            raise ValueError(f"{name} needs the argument '{parameter.name}': set it in the spec.")
    return function(*positional, **arguments)


def _refusal(name: str) -> str:
    package = name.partition(".")[0]
    if package in ("jaxmeta", "optax"):
        return (
            f"'{name}' is not a public function that a spec may name: give one of "
            f"{', '.join(PUBLIC)}, as in 'jaxmeta.nn.mlp'."
        )
    return (
        f"'{name}' is in the package '{package}', which is not trusted: if you trust its code, say "
        f"so by trust=('{package}',), or --trust={package} on the command line."
    )


def _public_names(module: ModuleType, name: str) -> list[str]:
    """The functions and classes that a module offers and that its own package defines."""
    package, members = name.partition(".")[0], vars(module)

    def own(value: Any) -> bool:
        while isinstance(value, functools.partial):  # such as optax.nadam
            value = value.func
        return callable(value) and f"{getattr(value, '__module__', '')}.".startswith(f"{package}.")

    # Ours say what they offer; optax's __all__ leaves out much of what it documents.
    offered = members if package == "optax" else members.get("__all__", members)
    return [each for each in offered if not each.startswith("_") and own(members.get(each))]
