"""Learning by comparison: embed the support set once, compare every query with what is kept of it.

A method is a :class:`Comparison`, three pure functions of embedded examples; the embedding, its
normalization, masks and absent classes are seen to here.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax

from jaxmeta.learners.frames.support import (
    check_normalization,
    check_support,
    check_ways,
    look_at_query,
    look_at_support,
    membership,
    present_classes,
    without_absent,
)
from jaxmeta.types import Array, Batch, Episode, Key, Learner, Metrics, Model, PyTree


class Comparison(NamedTuple):
    """What is kept of a support set and how queries are compared with it.

    Attributes:
      init: ``(key, embedded [n, ...]) -> own``, meta-learned parameters besides the embedding's.
      remember: ``(own, embedded [n, ...], member [n, ways]) -> memory``; ``member`` is 1 where an
        example is labeled with the class, else 0, and all 0 for padding.
      compare: ``(own, memory, embedded [m, ...]) -> logits [m, ways]``, finite.
    """

    init: Callable[[Key, Array], PyTree]
    remember: Callable[[PyTree, Array, Array], PyTree]
    compare: Callable[[PyTree, PyTree, Array], Array]


class Adapted(NamedTuple):
    """What is kept of the support set, its statistics, and the classes that it shows."""

    memory: PyTree
    statistics: PyTree
    present: Array


def nothing(key: Key, embedded: Array) -> PyTree:
    """The ``init`` of a comparison, or a head, that learns nothing of its own."""
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
      ways: number of classes, at most.
      normalization: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page.

    Returns:
      A learner with parameters ``{"model": ..., "head": ...}``, those of the comparison under
      ``"head"``.

    Raises:
      ValueError: no ways, an unknown normalization, or (when adapting) a support set that does
        not fit.
    """
    check_normalization(normalization)
    check_ways(ways)

    def init(key: Key, episode: Episode) -> tuple[PyTree, PyTree]:
        model_key, head_key = jax.random.split(key)
        params, state = model.init(model_key, episode.support.x)
        embedded, _ = model.apply(params, state, episode.support.x)
        return {"model": params, "head": comparison.init(head_key, embedded)}, state

    def adapt(params: PyTree, state: PyTree, support: Batch, key: Key) -> tuple[Adapted, Metrics]:
        check_support(support, ways)
        embedded, statistics = look_at_support(
            model, normalization, params["model"], state, support
        )
        memory = comparison.remember(params.get("head", ()), embedded, membership(support, ways))
        kept = statistics if normalization == "inductive" else None
        return Adapted(memory, kept, present_classes(support, ways)), {}

    def predict(
        params: PyTree,
        state: PyTree,
        adapted: Adapted,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
    ) -> tuple[Array, PyTree]:
        embedded, state = look_at_query(
            model, normalization, params["model"], state, adapted.statistics, x, mask, key
        )
        logits = comparison.compare(params.get("head", ()), adapted.memory, embedded)
        return without_absent(logits, adapted.present), state

    return Learner(init, adapt, predict)
