"""From a dictionary to the object it names: how a config becomes functions.

A *spec* is a mapping with the dotted name of a function under ``make`` and its arguments beside it,
``{"make": "jaxmeta.nn.conv4", "filters": 64}``; a mapping ``{"function":
"jaxmeta.losses.accuracy"}`` is that function itself. Specs nest. Anybody's function can be named,
so nothing is registered.
"""

import difflib
import importlib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any


def build(spec: Any, **context: Any) -> Any:
    """Makes what a spec names.

    Args:
      spec: a spec; lists and other values are returned with the specs inside them made.
      **context: further arguments for the outermost function.

    Returns:
      What the function returned.

    Raises:
      ValueError: no such function, or it takes no such argument.
    """
    if isinstance(spec, Mapping):
        if set(spec) == {"function"}:
            return find(spec["function"])
        arguments = {name: build(value) for name, value in spec.items() if name != "make"}
        if "make" not in spec:
            return arguments
        return call(spec["make"], {**arguments, **context})
    if isinstance(spec, list | tuple):
        return [build(value) for value in spec]
    return spec


def call(name: str, arguments: Mapping[str, Any]) -> Any:
    """Calls the function of a dotted name, having checked that it takes the arguments."""
    function = find(name)
    if not callable(function):
        raise ValueError(f"'{name}' is no function: give the dotted name of one.")
    signature = inspect.signature(function)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    for argument in arguments:
        if argument not in signature.parameters and not takes_any:
            raise ValueError(
                f"{name} takes no argument '{argument}': {near(argument, signature.parameters)}."
            )
    for parameter in signature.parameters.values():
        required = parameter.default is parameter.empty and parameter.kind in (
            parameter.POSITIONAL_OR_KEYWORD,
            parameter.KEYWORD_ONLY,
        )
        if required and arguments.get(parameter.name) is None:
            raise ValueError(f"{name} needs the argument '{parameter.name}': set it in the spec.")
    return function(**arguments)


def find(name: str) -> Any:
    """The object of a dotted name.

    Raises:
      ValueError: there is none.
    """
    module_name, _, attribute = name.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise ValueError(
            f"'{name}' cannot be imported ({error}): give the dotted name of a function."
        ) from error
    if not hasattr(module, attribute):
        raise ValueError(f"'{module_name}' has no '{attribute}': {near(attribute, dir(module))}.")
    return getattr(module, attribute)


def near(word: str, words: Iterable[str]) -> str:
    """What may have been meant by a word: the words like it, or else all of them."""
    candidates = [candidate for candidate in words if not candidate.startswith("_")]
    if not candidates:
        return "there are none"
    near = difflib.get_close_matches(word, candidates, n=3, cutoff=0.5)
    return f"the near ones are {', '.join(near)}" if near else f"choose {', '.join(candidates)}"
