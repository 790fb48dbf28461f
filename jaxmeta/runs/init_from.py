"""Starting from the parameters of another run, or from a named part of them.

Pretraining then adaptation, self-supervision then few-shot learning, or joint then single-task
training: each is two runs, the second of which takes parameters from the first.
"""

import os
import pathlib
from typing import Any, NamedTuple

import jax
from jax.tree_util import tree_leaves_with_path

from jaxmeta.inner import path_name
from jaxmeta.runs.checkpoint import load_arrays
from jaxmeta.runs.spec import suggest
from jaxmeta.runs.workdir import read_best, read_config
from jaxmeta.types import PyTree


class Grafted(NamedTuple):
    """Parameters, some of which come from another run.

    Attributes:
      params: the parameters.
      kept: names of the leaves that the other run does not have, which are unchanged.
      unused: names of the other run's leaves that have no place here.
    """

    params: PyTree
    kept: list[str]
    unused: list[str]


def read_params(workdir: str | os.PathLike[str]) -> tuple[PyTree, int]:
    """Reads the parameters of a run's result, without building anything from its config.

    Args:
      workdir: the folder of the run, whose config's ``evaluation.checkpoint`` says which
        checkpoint.

    Returns:
      ``(params, step)``: NumPy arrays in nested dictionaries and lists, and the number of optimizer
      steps they were trained for.

    Raises:
      ValueError: the folder holds no run, no checkpoint that can be read, or no parameters.
    """
    folder = pathlib.Path(workdir)

    config = read_config(folder)

    def read(checkpoints: Any, best: int, latest: int) -> tuple[PyTree, int]:
        step = best if config["evaluation"]["checkpoint"] == "best" else latest
        return load_arrays(pathlib.Path(checkpoints.directory) / str(step), "params"), step

    return read_best(folder, config, read)


def graft(params: PyTree, other: PyTree, at: str = "", take: str = "") -> Grafted:
    """Replaces a named part of the parameters with a named part of another run's.

    Parts are named like leaves: ``"model/block0"`` has the leaf ``"model/block0/kernel"``, and
    ``""`` is the whole. Leaves whose names agree within the two parts are replaced, whether they
    are in dictionaries, lists or named tuples.

    Args:
      params: parameters as initialized, any pytree of arrays.
      other: the other run's parameters, as returned by :func:`read_params`.
      at: the part of ``params`` to replace.
      take: the part of ``other`` that takes its place.

    Returns:
      ``(params, kept, unused)``, where the last two are what is left over in ``at`` and ``take``.

    Raises:
      ValueError: there is no such part, the two parts share no name, or a leaf differs in shape or
        type.

    >>> import numpy as np
    >>> new = {"model": {"w": np.zeros(2)}, "head": np.zeros(3)}
    >>> old = {"encoder": {"w": np.ones(2), "b": np.ones(1)}}
    >>> params, kept, unused = graft(new, old, at="model", take="encoder")
    >>> params["model"], kept, unused
    ({'w': array([1., 1.])}, [], ['encoder/b'])
    """
    places, given = _part(params, at, "this run's"), _part(other, take, "the other run's")
    shared = places.keys() & given.keys()
    if not shared:
        raise ValueError(
            f"No parameter under '{at}' has the name of one under '{take}' of the other run "
            f"({', '.join(places)} here, {', '.join(given)} there): name the parts that correspond."
        )
    for name in places:
        if name in shared:
            _check_alike(_join(at, name), places[name], _join(take, name), given[name])
    replaced = {_join(at, name): given[name] for name in shared}

    def replace(path: tuple[Any, ...], leaf: Any) -> Any:
        value = replaced.get(path_name(path))
        if value is None:
            return leaf
        return jax.device_put(value, leaf.sharding) if isinstance(leaf, jax.Array) else value

    return Grafted(
        jax.tree_util.tree_map_with_path(replace, params),
        [_join(at, name) for name in places if name not in shared],
        [_join(take, name) for name in given if name not in shared],
    )


def _part(params: PyTree, part: str, whose: str) -> dict[str, Any]:
    """The leaves of a part, by their names within it."""
    leaves = {path_name(path): leaf for path, leaf in tree_leaves_with_path(params)}
    if not part:
        return leaves
    found = {
        name[len(part) + 1 :]: leaf
        for name, leaf in leaves.items()
        if f"{name}/".startswith(f"{part}/")
    }
    if not found:
        parts = {name[:end] for name in leaves for end in _ends(name)}
        raise ValueError(
            f"There is no '{part}' in {whose} parameters: {suggest(part, sorted(parts))}."
        )
    return found


def _ends(name: str) -> list[int]:
    """The positions in a leaf's name at which the parts that contain it end."""
    return [i for i, letter in enumerate(name) if letter == "/"] + [len(name)]


def _join(part: str, name: str) -> str:
    return f"{part}/{name}".strip("/")


def _check_alike(here: str, leaf: Any, there: str, other: Any) -> None:
    expected, given = (f"{value.dtype}{list(value.shape)}" for value in (leaf, other))
    if expected != given:
        raise ValueError(
            f"Parameter '{here}' is {expected} but '{there}' of the other run is {given}: build "
            "the model as that run did, or take a part without it."
        )
