"""Learning by comparison: embed the support set once and compare every query with it.

A method is a :class:`Comparison`, three pure functions of embedded examples. The embedding, its
normalization, masks and absent classes are handled here.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax

from jaxmeta.learners.frames.normalized import normalized
from jaxmeta.learners.frames.support import (
    check_support,
    check_ways,
    mask_absent_classes,
    membership,
    present_classes,
)
from jaxmeta.types import Array, Batch, Episode, Key, Learner, Metrics, Model, PyTree


class Comparison(NamedTuple):
    """What is remembered of a support set and how queries are compared with it.

    Attributes:
      init: ``(key, embedded [n, ...]) -> head_params``, meta-learned parameters besides those of
        the embedding.
      remember: ``(head_params, embedded [n, ...], member [n, ways]) -> memory``, where ``member``
        is 1 if an example is labeled with the class, else 0; padding is a member of no class.
      compare: ``(head_params, memory, embedded [m, ...]) -> logits [m, ways]``, all finite.
    """

    init: Callable[[Key, Array], PyTree]
    remember: Callable[[PyTree, Array, Array], PyTree]
    compare: Callable[[PyTree, PyTree, Array], Array]


class Adapted(NamedTuple):
    """What is remembered of the support set, its statistics, and the classes present in it."""

    memory: PyTree
    statistics: PyTree
    present: Array


def no_head_params(key: Key, embedded: Array) -> PyTree:
    """The ``init`` of a comparison or a head without meta-learned parameters."""
    return ()


def comparison_learner(
    model: Model, comparison: Comparison, ways: int, normalization: str = "transductive"
) -> Learner:
    r"""Embeds the support set and compares each embedded query with it.

    .. math:: m = \mathrm{remember}(f(\text{support})), \qquad z = \mathrm{compare}(m, f(x))

    The support set is embedded without noise: dropout, if any, acts on the queries.

    Args:
      model: an embedding f.
      comparison: the method.
      ways: largest number of classes.
      normalization: ``"transductive"``, ``"inductive"`` or ``"running"``; see
        :func:`jaxmeta.learners.frames.normalized.normalized`.

    Returns:
      A learner with parameters ``{"model": ..., "head": ...}``, those of the comparison under
      ``"head"``.

    Raises:
      ValueError: ``ways`` is not positive, the normalization is unknown, or (when adapting) the
        support set does not fit.

    >>> from jaxmeta.learners.frames.support import class_means
    >>> from jaxmeta.nn import conv4
    >>> dots = Comparison(
    ...     init=no_head_params,
    ...     remember=lambda head_params, embedded, member: class_means(embedded, member),
    ...     compare=lambda head_params, means, embedded: embedded @ means.T,
    ... )
    >>> learner = comparison_learner(conv4(), dots, ways=5)
    """
    embedding = normalized(model, normalization)
    check_ways(ways)

    def init(key: Key, episode: Episode) -> tuple[PyTree, PyTree]:
        model_key, head_key = jax.random.split(key)
        params, state = model.init(model_key, episode.support.x)
        embedded, _ = model.apply(params, state, episode.support.x)
        return {"model": params, "head": comparison.init(head_key, embedded)}, state

    def adapt(params: PyTree, state: PyTree, support: Batch, key: Key) -> tuple[Adapted, Metrics]:
        check_support(support, ways)
        embedded, kept = embedding.on_support(params["model"], state, support)
        memory = comparison.remember(params.get("head", ()), embedded, membership(support, ways))
        return Adapted(memory, kept, present_classes(support, ways)), {}

    def predict(
        params: PyTree,
        state: PyTree,
        adapted: Adapted,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
    ) -> tuple[Array, PyTree]:
        embedded, state = embedding.on_query(
            params["model"], state, adapted.statistics, x, mask, key
        )
        logits = comparison.compare(params.get("head", ()), adapted.memory, embedded)
        return mask_absent_classes(logits, adapted.present), state

    return Learner(init, adapt, predict)
