"""Any learner of features, on what an embedding makes of its inputs."""

from typing import NamedTuple

import jax

from jaxmeta.learners.frames.normalized import normalized
from jaxmeta.types import Array, Batch, Episode, Key, Learner, Metrics, Model, PyTree


class Adapted(NamedTuple):
    """What the learner adapted, and the support set's statistics."""

    learner: PyTree
    statistics: PyTree


def embedded(model: Model, learner: Learner, *, normalization: str = "transductive") -> Learner:
    r"""Embeds support set and queries, and lets a learner of features do the rest.

    .. math:: \mathrm{adapt}(f(\text{support})), \qquad \mathrm{predict}(f(x))

    Both learn together, end to end. For learners that only work on features, such as
    :func:`hallucinated`, on images or texts. The support set is embedded without noise.

    Args:
      model: an embedding f, ``[n, ...]`` to ``[n, d]``.
      learner: a learner of features ``[n, d]``.
      normalization: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page.

    Returns:
      A learner with parameters and state ``{"model", "learner"}``.

    Raises:
      ValueError: the normalization is unknown.

    >>> from jaxmeta.learners import hallucinated, prototypical
    >>> from jaxmeta.nn import conv4, identity, residual_mlp
    >>> plain, generator = prototypical(identity(), ways=5), residual_mlp(codes=64)
    >>> learner = embedded(conv4(), hallucinated(plain, generator, extra=4, noise=64))
    """
    embedding = normalized(model, normalization)

    def init(key: Key, episode: Episode) -> tuple[PyTree, PyTree]:
        model_key, learner_key = jax.random.split(key)
        params, state = model.init(model_key, episode.support.x)
        batches = (
            batch._replace(x=model.apply(params, state, batch.x, batch.mask)[0])
            for batch in episode
        )
        own, own_state = learner.init(learner_key, Episode(*batches))
        return {"model": params, "learner": own}, {"model": state, "learner": own_state}

    def seen(params: PyTree, state: PyTree, support: Batch) -> tuple[Batch, PyTree]:
        features, kept = embedding.on_support(params["model"], state["model"], support)
        return support._replace(x=features), kept

    def adapt(params: PyTree, state: PyTree, support: Batch, key: Key) -> tuple[Adapted, Metrics]:
        features, kept = seen(params, state, support)
        own, metrics = learner.adapt(params["learner"], state["learner"], features, key)
        return Adapted(own, kept), metrics

    def predict(
        params: PyTree,
        state: PyTree,
        adapted: Adapted,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
    ) -> tuple[Array, PyTree]:
        keys = (None, None) if key is None else jax.random.split(key)
        features, used = embedding.on_query(
            params["model"], state["model"], adapted.statistics, x, mask, keys[0]
        )
        outputs, own = learner.predict(
            params["learner"], state["learner"], adapted.learner, features, mask, keys[1]
        )
        return outputs, {"model": used, "learner": own}

    walk = learner.path
    if walk is None:
        return Learner(init, adapt, predict)

    def path(params: PyTree, state: PyTree, support: Batch, key: Key) -> tuple[Adapted, Metrics]:
        features, kept = seen(params, state, support)
        own, metrics = walk(params["learner"], state["learner"], features, key)
        rows = jax.tree.leaves(own)[0].shape[0]
        each = jax.tree.map(lambda leaf: jax.numpy.stack([leaf] * rows), kept)
        return Adapted(own, each), metrics

    return Learner(init, adapt, predict, path)
