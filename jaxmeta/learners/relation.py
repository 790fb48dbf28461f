"""Relation networks: a learned comparison of a query's maps with a class's maps."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.learners.frames.normalized import normalized
from jaxmeta.learners.frames.support import (
    check_support,
    check_ways,
    class_means,
    mask_absent_classes,
    membership,
    present_classes,
)
from jaxmeta.nn import relation_module
from jaxmeta.types import Array, Batch, Episode, Key, Learner, Metrics, Model, PyTree


class Adapted(NamedTuple):
    """Maps of each class ``[ways, rows, columns, c]``, support statistics, the classes present."""

    maps: Array
    statistics: PyTree
    present: Array


def relation(
    model: Model,
    ways: int,
    *,
    module: Model | None = None,
    normalization: str = "transductive",
) -> Learner:
    r"""Relation networks: a network g scores how well a query matches the mean of a class's maps.

    .. math:: r_k = \sigma(z_k), \qquad
              z_k = g\Big(\Big[\frac{1}{|S_k|} \sum_{x' \in S_k} f(x'),\; f(x)\Big]\Big)

    Train with :func:`jaxmeta.losses.relation_error`, the paper's squared error of r. The paper sums
    a class's maps; their mean has the scale that g was trained on, whatever the number of shots.

    Args:
      model: an embedding f with maps as outputs, ``[n, ...]`` to ``[n, rows, columns, c]``, such as
        ``conv4(halvings=2, flatten=False)``.
      ways: largest number of classes.
      module: g, from pairs ``[n, rows, columns, 2c]`` to ``[n]``; by default
        :func:`jaxmeta.nn.relation_module`.
      normalization: ``"transductive"``, ``"inductive"`` (g is then normalized by pairs of support
        examples and classes) or ``"running"``; see the design page.

    Returns:
      A learner with parameters ``{"model": ..., "head": ...}`` and a matching state, with g under
      ``"head"``; they work for any number of ways.

    Raises:
      ValueError: ``ways`` is not positive, the normalization is unknown, embedded examples are not
        maps, or (when adapting) the support set does not fit.

    References:
      Sung et al., 2018, Learning to Compare: Relation Network for Few-shot Learning, section 3.

    >>> from jaxmeta.nn import conv4
    >>> learner = relation(conv4(halvings=2, flatten=False), ways=5)
    """
    head = relation_module() if module is None else module
    embedding, comparison = normalized(model, normalization), normalized(head, normalization)
    check_ways(ways)

    def init(key: Key, episode: Episode) -> tuple[PyTree, PyTree]:
        model_key, head_key = jax.random.split(key)
        params, state = model.init(model_key, episode.support.x)
        maps, _ = model.apply(params, state, episode.support.x)
        if maps.ndim != 4:
            raise ValueError(
                f"The model embeds examples as {list(maps.shape[1:])}: relation networks compare "
                "maps [rows, columns, channels], as of conv4(halvings=2, flatten=False)."
            )
        head_params, head_state = head.init(head_key, jnp.concatenate([maps, maps], axis=-1))
        return {"model": params, "head": head_params}, {"model": state, "head": head_state}

    def pairs(maps: Array, classes: Array) -> Array:
        """Each of ``[m, ...]`` paired with each of ``[ways, ...]``: ``[m * ways, ...]``."""
        shape = (maps.shape[0], ways, *maps.shape[1:])
        laid = [jnp.broadcast_to(classes[None], shape), jnp.broadcast_to(maps[:, None], shape)]
        return jnp.concatenate(laid, axis=-1).reshape(-1, *shape[2:-1], 2 * shape[-1])

    def shown(mask: Array, present: Array) -> Array:
        """The mask of these pairs: 1 for an example and a class that are both present."""
        return jnp.outer(mask, present.astype(mask.dtype)).reshape(-1)

    def adapt(params: PyTree, state: PyTree, support: Batch, key: Key) -> tuple[Adapted, Metrics]:
        check_support(support, ways)
        maps, model_kept = embedding.on_support(params["model"], state["model"], support)
        present = present_classes(support, ways)
        classes = class_means(maps, membership(support, ways))
        compared = Batch(
            pairs(maps, classes), jnp.repeat(support.y, ways), shown(support.mask, present)
        )
        head_kept = comparison.statistics(params["head"], state["head"], compared)
        return Adapted(classes, {"model": model_kept, "head": head_kept}, present), {}

    def predict(
        params: PyTree,
        state: PyTree,
        adapted: Adapted,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
    ) -> tuple[Array, PyTree]:
        kept, present = adapted.statistics, adapted.present
        model_key, head_key = (None, None) if key is None else jax.random.split(key)
        maps, model_state = embedding.on_query(
            params["model"], state["model"], kept["model"], x, mask, model_key
        )
        mask = jnp.ones(maps.shape[0], jnp.float32) if mask is None else mask
        scores, head_state = comparison.on_query(
            params["head"],
            state["head"],
            kept["head"],
            pairs(maps, adapted.maps),
            shown(mask, present),
            head_key,
        )
        logits = mask_absent_classes(scores.reshape(-1, ways), present)
        return logits, {"model": model_state, "head": head_state}

    return Learner(init, adapt, predict)
