"""Learning by comparison: the nearest class mean in a learned space."""

from typing import NamedTuple

import jax.numpy as jnp

from jaxmeta.learners.common import (
    check_normalisation,
    check_support,
    look_at_query,
    look_at_support,
    present_classes,
    without_absent,
)
from jaxmeta.types import Array, Batch, Episode, Key, Learner, Metrics, Model, PyTree


class Adapted(NamedTuple):
    """A prototype for each class ``[ways, d]``, the support statistics, the classes shown."""

    prototypes: Array
    statistics: PyTree
    present: Array


def prototypical(model: Model, ways: int, *, normalisation: str = "transductive") -> Learner:
    r"""Prototypical networks: a class is the mean of its embedded examples.

    The support set is embedded without noise: dropout, if any, acts on the queries.

    .. math:: c_k = \frac{1}{|S_k|} \sum_{x \in S_k} f(x), \qquad z_k = -\lVert f(x) - c_k \rVert^2

    Args:
      model: an embedding, ``[n, ...]`` to ``[n, d]``.
      ways: number of classes, at most.
      normalisation: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page.

    Returns:
      A learner whose parameters are the model's; they serve any number of ways.

    Raises:
      ValueError: an unknown normalisation, or (when adapting) a support set that does not fit.

    References:
      Snell, Swersky and Zemel, 2017, Prototypical Networks for Few-shot Learning, equations 1, 2.
    """
    check_normalisation(normalisation)

    def init(key: Key, episode: Episode) -> tuple[PyTree, PyTree]:
        return model.init(key, episode.support.x)

    def adapt(params: PyTree, state: PyTree, support: Batch, key: Key) -> tuple[Adapted, Metrics]:
        check_support(support, ways)
        embedded, statistics = look_at_support(model, normalisation, params, state, support)
        member = (support.y[:, None] == jnp.arange(ways)[None]) & (support.mask[:, None] > 0)
        weight = member.astype(embedded.dtype)
        weight = weight / jnp.maximum(jnp.sum(weight, axis=0, keepdims=True), 1)
        if normalisation != "inductive":
            statistics = None
        return Adapted(weight.T @ embedded, statistics, present_classes(support, ways)), {}

    def predict(
        params: PyTree,
        state: PyTree,
        adapted: Adapted,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
    ) -> tuple[Array, PyTree]:
        embedded, state = look_at_query(
            model, normalisation, params, state, adapted.statistics, x, mask, key
        )
        differences = embedded[:, None] - adapted.prototypes[None]
        logits = -jnp.sum(differences**2, axis=-1)
        return without_absent(logits, adapted.present), state

    return Learner(init, adapt, predict)
