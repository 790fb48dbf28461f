"""Samplers made of samplers: tasks side by side, or from one of several sources."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.data.batches import described
from jaxmeta.data.placed import changed_tasks
from jaxmeta.types import UNLABELED, Array, Batch, Episode, Key, PyTree, Sampler, Source


class Drawn(NamedTuple):
    """A task of a :func:`mixture`.

    Attributes:
      source: int32, which of the samplers drew it, from 0.
      task: what that sampler drew.
    """

    source: Array
    task: PyTree


def paired(samplers: PyTree) -> Sampler:
    """Draws one task from each sampler, side by side and independently.

    For losses that see several sources together: a labeled batch beside one from another domain, or
    one batch from each of several data sets.

    Args:
      samplers: any pytree of samplers, such as a dictionary by name or a tuple.

    Returns:
      A sampler whose data are the sources' data, and whose tasks are their tasks, both in the
      structure of ``samplers``.

    Raises:
      ValueError: there is no sampler or, when called, the data have another structure.

    >>> import jax
    >>> from jaxmeta.data import array_source
    >>> photos, sketches = array_source([[1.0], [2.0]], [0, 1]), array_source([[-3.0]], [0])
    >>> sample = paired({"source": photos.batches(4), "target": sketches.batches(2)})
    >>> task = sample({"source": photos.data, "target": sketches.data}, jax.random.key(0))
    >>> task["source"].x.shape, task["target"].x.tolist()
    ((4, 1), [[-3.0], [-3.0]])
    """
    each, structure = jax.tree.flatten(samplers)
    if not each:
        raise ValueError(f"paired got {samplers}; give at least one sampler.")

    def sample(data: PyTree, key: Key) -> PyTree:
        parts = _parts(structure, data)
        keys = jax.random.split(key, len(each))
        tasks = [draw(part, key) for draw, part, key in zip(each, parts, keys, strict=True)]
        return jax.tree.unflatten(structure, tasks)

    return sample


def beside(sample: Sampler, source: Source, size: int) -> Sampler:
    """Each task with a batch of the same data beside it, drawn independently.

    For an objective of episodes that is added to one of batches, such as a few-shot learner whose
    features are to be the same in two domains.

    Args:
      sample: a sampler of episodes from ``source``.
      source: the source of the batches.
      size: examples of a batch.

    Returns:
      A sampler of ``{"episode": ..., "batch": ...}``. In a config,
      ``{"make": "jaxmeta.data.beside", "size": 50, "sample": {"ways": 10}}``.

    Raises:
      ValueError: ``source`` has no batches.

    >>> import jax
    >>> from jaxmeta.data import array_source
    >>> source = array_source([[1.0], [2.0], [3.0], [4.0]], [0, 0, 1, 1])
    >>> draw = beside(source.episodes(2, 1, 1), source, size=3)
    >>> task = draw(source.data, jax.random.key(0))
    >>> task["episode"].query.y.tolist(), task["batch"].x.shape
    ([0, 1], (3, 1))
    """
    if source.batches is None:
        raise ValueError("The data have no batches to draw beside episodes: give a data set.")
    both = paired({"episode": sample, "batch": source.batches(size)})
    return lambda data, key: both({"episode": data, "batch": data}, key)


def without_labels(sample: Sampler) -> Sampler:
    """Draws the same tasks, in which every example has the label -1, which is none.

    Args:
      sample: a sampler of tasks that hold any number of batches.

    >>> import jax
    >>> from jaxmeta.data import array_source
    >>> source = array_source([[1.0], [2.0]], ["ant", "bee"])
    >>> without_labels(source.batches(3))(source.data, jax.random.key(0)).y.tolist()
    [-1, -1, -1]
    """

    def blank(batch: Batch) -> Batch:
        return batch._replace(y=jnp.full_like(batch.y, UNLABELED))

    def without(data: PyTree, task: PyTree) -> PyTree:
        return jax.tree.map(blank, task, is_leaf=lambda node: isinstance(node, Batch))

    return changed_tasks(sample, without)


def without_support(sample: Sampler) -> Sampler:
    """Draws tasks without a support set, whose queries are the batches that a sampler draws.

    For learners that need none, such as :func:`jaxmeta.learners.fixed_classifier`.

    Args:
      sample: a sampler of batches.

    >>> import jax
    >>> from jaxmeta.data import array_source
    >>> source = array_source([[1.0], [2.0]], ["ant", "bee"])
    >>> task = without_support(source.batches(3))(source.data, jax.random.key(0))
    >>> task.support.x.shape, task.query.x.shape
    ((0, 1), (3, 1))
    """

    def alone(data: PyTree, query: Batch) -> Episode:
        return Episode(jax.tree.map(lambda leaf: leaf[:0], query), query)

    return changed_tasks(sample, alone)


def mixture(samplers: Sequence[Sampler], weights: Sequence[float] | None = None) -> Sampler:
    r"""Draws each task from one of several sources, the i-th with probability :math:`w_i`.

    .. math:: p(\text{task}) = \sum_i w_i\, p_i(\text{task})

    Under ``vmap`` every sampler draws, and all but one of their tasks are dropped.

    Args:
      samplers: samplers of tasks with the same structure and shape; ``max_ways`` and ``max_shots``
        pad episodes to a common shape.
      weights: what the probabilities are proportional to; ``None`` weighs all equally.

    Returns:
      A sampler whose data are a tuple of the sources' data, and whose tasks are :class:`Drawn`.

    Raises:
      ValueError: there is no sampler, there is not one non-negative weight for each, all weights
        are zero or, when called, the tasks differ in structure or shape.

    >>> import jax
    >>> from jaxmeta.data import array_source
    >>> one, two = array_source([[1.0]], [0]), array_source([[2.0], [2.0]], [0, 1])
    >>> sample = mixture([one.batches(3), two.batches(3)], weights=[0, 1])
    >>> drawn = sample((one.data, two.data), jax.random.key(0))
    >>> int(drawn.source), drawn.task.x.tolist()
    (1, [[2.0], [2.0], [2.0]])
    """
    each, structure = jax.tree.flatten(tuple(samplers))
    if not each:
        raise ValueError("mixture got 0 samplers; give at least one.")
    given = [1.0] * len(each) if weights is None else [float(weight) for weight in weights]
    sound = all(math.isfinite(weight) and weight >= 0 for weight in given) and sum(given) > 0
    if len(given) != len(each) or not sound:
        raise ValueError(
            f"The weights of a mixture of {len(each)} samplers are {weights}; give one "
            "non-negative number for each, not all of them 0."
        )

    def sample(data: PyTree, key: Key) -> Drawn:
        parts = _parts(structure, data)
        shapes = [jax.eval_shape(draw, part, key) for draw, part in zip(each, parts, strict=True)]
        for place, shape in enumerate(shapes):
            if shape != shapes[0]:
                raise ValueError(
                    f"The tasks of a mixture must be alike, and sampler {place} draws "
                    f"{described(shape)} where sampler 0 draws {described(shapes[0])}; pad them "
                    "with max_ways and max_shots."
                )
        source_key, task_key = jax.random.split(key)
        source = jax.random.categorical(source_key, jnp.log(jnp.array(given, jnp.float32)))
        branches = [
            lambda key, draw=draw, part=part: draw(part, key)
            for draw, part in zip(each, parts, strict=True)
        ]
        return Drawn(source.astype(jnp.int32), jax.lax.switch(source, branches, task_key))

    return sample


def _parts(structure: jax.tree_util.PyTreeDef, data: PyTree) -> list[PyTree]:
    """The data of each sampler in a structure of samplers."""
    try:
        return structure.flatten_up_to(data)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The data of combined samplers are a {type(data).__name__} where the samplers are "
            f"{_shown(structure)}; give the data of each source in the place of its sampler."
        ) from error


def _shown(structure: jax.tree_util.PyTreeDef) -> str:
    """The structure of the samplers, as in ``{'photos': *, 'text': *}``."""
    return str(structure).removeprefix("PyTreeDef(").removesuffix(")")
