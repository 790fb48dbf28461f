"""Learning by adapting a classifier on top of an embedding, and the embedding with it or not.

A method is a :class:`Head`, three pure functions, and an inner loop.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.distributed.varying import varying_alike
from jaxmeta.inner import InnerLoop
from jaxmeta.learners.frames.comparison import nothing
from jaxmeta.learners.frames.support import (
    LEAST,
    check_normalization,
    check_support,
    check_ways,
    class_means,
    cosine_similarities,
    look_at_query,
    look_at_support,
    loss_of_support,
    membership,
    present_classes,
    to_unit_length,
    without_absent,
)
from jaxmeta.losses import cross_entropy, masked_mean
from jaxmeta.types import Array, Batch, Episode, Key, Learner, Metrics, Model, PyTree


class Head(NamedTuple):
    """A classifier of embedded examples.

    Attributes:
      init: ``(key, embedded [n, d]) -> own``, what is meta-learned of it.
      start: ``(own, embedded [n, d], member [n, ways]) -> weights``, where adaptation begins;
        ``member`` is 1 where an example is labeled with the class, else 0.
      apply: ``(weights, embedded [m, d]) -> logits [m, ways]``.
      penalty: ``(weights, member [n, ways]) -> scalar``, added to the mean loss of the support set.
    """

    init: Callable[[Key, Array], PyTree]
    start: Callable[[PyTree, Array, Array], PyTree]
    apply: Callable[[PyTree, Array], Array]
    penalty: Callable[[PyTree, Array], Array | float] = lambda weights, member: 0.0


class Adapted(NamedTuple):
    """The adapted leaves, the support statistics, the classes shown.

    ``waiting`` is the support set and the key where the queries are needed to adapt; the leaves are
    then ``None``.
    """

    fast: PyTree
    statistics: PyTree
    present: Array
    waiting: tuple[Batch, Key] | None


class Query(NamedTuple):
    """What is asked: inputs ``[m, ...]`` and their mask ``[m]``."""

    x: PyTree
    mask: Array


def affine(weights: PyTree, embedded: Array) -> Array:
    """The logits of a linear layer."""
    return embedded @ weights["kernel"] + weights["bias"][None]


def learned_head(ways: int) -> Head:
    """A linear layer whose initial weights are meta-learned."""
    spread = jax.nn.initializers.glorot_normal()

    def init(key: Key, embedded: Array) -> PyTree:
        kernel = spread(key, (embedded.shape[-1], ways), jnp.float32)
        return {"kernel": kernel, "bias": jnp.zeros(ways, jnp.float32)}

    return Head(init, lambda own, embedded, member: own, affine)


def prototype_head() -> Head:
    r"""The linear layer of prototypical networks: :math:`W_k = 2 c_k`, :math:`b_k = -|c_k|^2`.

    Its logits are :math:`-\lVert f(x) - c_k \rVert^2` but for a term that all classes share.
    """

    def start(own: PyTree, embedded: Array, member: Array) -> PyTree:
        means = class_means(embedded, member)
        return {"kernel": 2 * means.T, "bias": -jnp.sum(means**2, axis=-1)}

    return Head(nothing, start, affine)


def mean_head() -> Head:
    """A linear layer that starts from the class means of features of unit length, without bias."""
    return Head(nothing, _means, affine)


def cosine_head(temperature: float) -> Head:
    r"""Cosine similarities to these means, and a bias: :math:`z_k = \cos(w_k, f(x)) / T + b_k`."""

    def apply(weights: PyTree, embedded: Array) -> Array:
        similar = cosine_similarities(embedded, weights["kernel"].T)
        return similar / temperature + weights["bias"][None]

    return Head(nothing, _means, apply)


def _means(own: PyTree, embedded: Array, member: Array) -> PyTree:
    # Of unit length, as a class would else be preferred for the length of its features.
    means = class_means(to_unit_length(embedded), member)
    return {"kernel": means.T, "bias": jnp.zeros(means.shape[0], means.dtype)}


def head_learner(
    model: Model,
    head: Head,
    inner: InnerLoop,
    ways: int,
    *,
    whole: bool = False,
    entropy: float = 0.0,
    normalization: str = "transductive",
) -> Learner:
    r"""Adapts a head, and with ``whole`` its embedding too, to the support set by an inner loop.

    .. math:: L(w) = \operatorname*{mean}_{(x, y) \in S} -\log p_w(y \mid x)
              + \beta \operatorname*{mean}_{x \in Q} H\big(p_w(\cdot \mid x)\big)

    Unless the embedding adapts, examples are embedded once, however many steps there are.

    Args:
      model: an embedding, ``[n, ...]`` to ``[n, d]``.
      head: the classifier.
      inner: the inner loop.
      ways: number of classes, at most.
      whole: adapt the embedding too.
      entropy: beta, weight of the entropy of the predictions on the query set. When it is not zero,
        adaptation waits for the queries: it happens in ``predict``, and reports no metrics.
      normalization: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page.

    Returns:
      A learner with parameters ``{"model", "head", "hyper"}``. Where ``head`` and ``inner`` learn
      nothing, parameters that hold ``"model"`` alone serve as well.

    Raises:
      ValueError: no ways, the entropy's weight is negative, an unknown normalization, or (when
        adapting) a support set that does not fit.
    """
    check_normalization(normalization)
    check_ways(ways)
    if entropy < 0:
        raise ValueError(f"entropy is {entropy}: give 0 or more.")

    def init(key: Key, episode: Episode) -> tuple[PyTree, PyTree]:
        model_key, head_key, hyper_key = jax.random.split(key, 3)
        params, state = model.init(model_key, episode.support.x)
        embedded, _ = model.apply(params, state, episode.support.x)
        own = head.init(head_key, embedded)
        fast = {"head": head.start(own, embedded, membership(episode.support, ways))}
        if whole:
            fast["model"] = params
        return {"model": params, "head": own, "hyper": inner.init(hyper_key, fast)}, state

    def solve(
        params: PyTree, state: PyTree, support: Batch, key: Key, query: Query | None = None
    ) -> tuple[PyTree, Metrics, PyTree]:
        """The adapted leaves, metrics, and the statistics of the support set under them."""
        params, state, support, key, query = varying_alike(params, state, support, key, query)

        def look(weights: PyTree) -> tuple[Array, Array | None, PyTree]:
            embedded, statistics = look_at_support(model, normalization, weights, state, support)
            if query is None:
                return embedded, None, statistics
            asked, _ = look_at_query(
                model, normalization, weights, state, statistics, query.x, query.mask, None
            )
            return embedded, asked, statistics

        fixed = look(params["model"])
        present, member = present_classes(support, ways), membership(support, ways)

        def loss(fast: PyTree, key: Key) -> Array:
            embedded, asked, _ = look(fast["model"]) if whole else fixed
            logits = head.apply(fast["head"], embedded)
            value = loss_of_support(cross_entropy, logits, support, present)
            value += head.penalty(fast["head"], member)
            if query is None or asked is None:
                return value
            unsure = entropies(head.apply(fast["head"], asked), present)
            return value + entropy * masked_mean(unsure, query.mask)

        fast = {"head": head.start(params.get("head", ()), fixed[0], member)}
        if whole:
            fast["model"] = params["model"]
        fast, metrics = inner.run(loss, fast, params.get("hyper", ()), key)
        if normalization != "inductive":
            return fast, metrics, None
        return fast, metrics, look(fast["model"])[2] if whole else fixed[2]

    def adapt(params: PyTree, state: PyTree, support: Batch, key: Key) -> tuple[Adapted, Metrics]:
        check_support(support, ways)
        present = present_classes(support, ways)
        if entropy:
            return Adapted(None, None, present, (support, key)), {}
        fast, metrics, statistics = solve(params, state, support, key)
        return Adapted(fast, statistics, present, None), metrics

    def predict(
        params: PyTree,
        state: PyTree,
        adapted: Adapted,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
    ) -> tuple[Array, PyTree]:
        fast, statistics = adapted.fast, adapted.statistics
        if adapted.waiting is not None:
            asked = jnp.ones(jax.tree.leaves(x)[0].shape[0], jnp.float32) if mask is None else mask
            fast, _, statistics = solve(params, state, *adapted.waiting, Query(x, asked))
        weights = fast["model"] if whole else params["model"]
        embedded, state = look_at_query(
            model, normalization, weights, state, statistics, x, mask, key
        )
        return without_absent(head.apply(fast["head"], embedded), adapted.present), state

    return Learner(init, adapt, predict)


def entropies(logits: Array, present: Array) -> Array:
    """The entropy, in nats, of each prediction ``[n]`` over the classes that are present."""
    # Finite, as minus infinity times a probability of zero is not a number.
    log_p = jax.nn.log_softmax(jnp.where(present[None], logits, LEAST))
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)
