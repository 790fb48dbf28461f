"""Learning by adapting a classifier on top of an embedding, with or without the embedding.

A method is a :class:`Head`, a few pure functions of embedded examples, and an inner loop.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.inner import InnerLoop, merge, partition
from jaxmeta.learners.frames.adaptation import Problem, by_inner_loop
from jaxmeta.learners.frames.comparison import no_head_params
from jaxmeta.learners.frames.normalized import normalized
from jaxmeta.learners.frames.support import (
    MASK_VALUE,
    check_support,
    check_ways,
    class_means,
    cosine_similarities,
    draw_minibatch,
    mask_absent_classes,
    membership,
    present_classes,
    support_loss,
    to_unit_length,
)
from jaxmeta.losses import cross_entropy, masked_mean
from jaxmeta.types import Array, Batch, Episode, Key, Learner, Metrics, Model, PyTree


class Head(NamedTuple):
    """A classifier of embedded examples.

    Attributes:
      init: ``(key, embedded [n, d]) -> head_params``, what is meta-learned about the head.
      start: ``(head_params, embedded [n, d], member [n, ways]) -> weights``, where adaptation
        starts; ``member`` is 1 if an example is labeled with the class, else 0.
      apply: ``(weights, embedded [m, d]) -> logits [m, ways]``.
      penalty: ``(weights, member [n, ways]) -> scalar``, added to the mean loss of the support set.
    """

    init: Callable[[Key, Array], PyTree]
    start: Callable[[PyTree, Array, Array], PyTree]
    apply: Callable[[PyTree, Array], Array]
    penalty: Callable[[PyTree, Array], Array | float] = lambda weights, member: 0.0


class Adapted(NamedTuple):
    """The adapted leaves, the support statistics, the classes present.

    If the queries are needed to adapt, ``waiting`` is the support set and the key, and the leaves
    are ``None``.
    """

    fast: PyTree
    statistics: PyTree
    present: Array
    waiting: tuple[Batch, Key] | None = None


class Query(NamedTuple):
    """The queries: inputs ``[m, ...]`` and their mask ``[m]``."""

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

    return Head(init, lambda head_params, embedded, member: head_params, affine)


def prototype_head() -> Head:
    r"""The linear layer of prototypical networks: :math:`W_k = 2 c_k`, :math:`b_k = -|c_k|^2`.

    Its logits are :math:`-\lVert f(x) - c_k \rVert^2` up to a term that all classes share.
    """

    def start(head_params: PyTree, embedded: Array, member: Array) -> PyTree:
        means = class_means(embedded, member)
        return {"kernel": 2 * means.T, "bias": -jnp.sum(means**2, axis=-1)}

    return Head(no_head_params, start, affine)


def mean_head() -> Head:
    """A linear layer that starts from the class means of unit-length features and zero biases."""
    return Head(no_head_params, _means, affine)


def zero_head() -> Head:
    """A linear layer that starts from zeros, so that it knows nothing of the classes."""

    def start(head_params: PyTree, embedded: Array, member: Array) -> PyTree:
        sizes = (embedded.shape[1], member.shape[1])
        return {
            "kernel": jnp.zeros(sizes, embedded.dtype),
            "bias": jnp.zeros(sizes[1:], embedded.dtype),
        }

    return Head(no_head_params, start, affine)


def cosine_head(temperature: float) -> Head:
    r"""A head of cosines :math:`z_k = \cos(w_k, f(x)) / T + b_k`; w starts from the means."""

    def apply(weights: PyTree, embedded: Array) -> Array:
        similar = cosine_similarities(embedded, weights["kernel"].T)
        return similar / temperature + weights["bias"][None]

    return Head(no_head_params, _means, apply)


def _means(head_params: PyTree, embedded: Array, member: Array) -> PyTree:
    # At unit length, since otherwise a class would be favored for the length of its features.
    means = class_means(to_unit_length(embedded), member)
    return {"kernel": means.T, "bias": jnp.zeros(means.shape[0], means.dtype)}


def head_learner(
    model: Model,
    head: Head,
    inner: InnerLoop,
    ways: int,
    *,
    fast: Callable[[str], bool] | None = None,
    entropy: float = 0.0,
    batch: int | None = None,
    normalization: str = "transductive",
) -> Learner:
    r"""Adapts a head, and the parts of its embedding that ``fast`` names, by an inner loop.

    .. math:: L(w) = \operatorname*{mean}_{(x, y) \in S} -\log p_w(y \mid x)
              + \beta \operatorname*{mean}_{x \in Q} H\big(p_w(\cdot \mid x)\big)

    Unless the embedding adapts too, examples are embedded only once, whatever the number of steps.

    Args:
      model: an embedding, ``[n, ...]`` to ``[n, d]``.
      head: the classifier.
      inner: the inner loop.
      ways: largest number of classes.
      fast: whether a parameter of the embedding adapts too, by its name, as in
        ``"block3/kernel"``; ``None`` for the head alone.
      entropy: beta, the weight of the entropy of the predictions on the query set. Unless it is 0,
        adaptation waits for the queries: it happens in ``predict`` and reports no metrics.
      batch: number of labeled examples of the support set that each inner step draws, as in
        :func:`gradient_learner`; by default all.
      normalization: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page.

    Returns:
      A learner with parameters ``{"model", "head", "hyper"}``. If ``head`` and ``inner`` learn
      nothing, parameters with only ``"model"`` work as well. It has a ``path`` if the inner loop
      has one and adaptation does not wait for the queries.

    Raises:
      ValueError: ``ways`` or ``batch`` is not positive, the entropy's weight is negative, the
        normalization is unknown, or (when adapting) the support set does not fit.

    >>> import optax
    >>> from jaxmeta.inner import unroll
    >>> from jaxmeta.nn import conv4
    >>> inner = unroll(optax.sgd(0.1, momentum=0.9), steps=10)
    >>> learner = head_learner(conv4(), learned_head(5), inner, ways=5)
    """
    embedding = normalized(model, normalization)
    check_ways(ways)
    if batch is not None:
        check_count("batch", batch, least=1)
    if entropy < 0:
        raise ValueError(f"entropy is {entropy}: give 0 or more.")

    def init(key: Key, episode: Episode) -> tuple[PyTree, PyTree]:
        model_key, head_key, hyper_key = jax.random.split(key, 3)
        params, state = model.init(model_key, episode.support.x)
        embedded, _ = model.apply(params, state, episode.support.x)
        head_params = head.init(head_key, embedded)
        start = {"head": head.start(head_params, embedded, membership(episode.support, ways))}
        if fast is not None:
            start["model"] = partition(params, fast)[0]
        hyper = inner.init(hyper_key, start)
        return {"model": params, "head": head_params, "hyper": hyper}, state

    def problem(
        params: PyTree, state: PyTree, support: Batch, query: Query | None = None
    ) -> Problem:
        check_support(support, ways)
        present, member = present_classes(support, ways), membership(support, ways)

        def embed(weights: PyTree, shown: Batch) -> tuple[Array, Array | None, PyTree]:
            """The embedded examples and queries, and the statistics of the examples."""
            embedded, kept = embedding.on_support(weights, state, shown)
            if query is None:
                return embedded, None, kept
            asked, _ = embedding.on_query(weights, state, kept, query.x, query.mask)
            return embedded, asked, kept

        initial = embed(params["model"], support)
        start = {"head": head.start(params.get("head", ()), initial[0], member)}
        slow: PyTree = ()
        if fast is not None:
            start["model"], slow = partition(params["model"], fast)

        def inner_loss(leaves: PyTree, key: Key) -> Array:
            # What does not adapt is embedded once.
            shown = support._replace(x=initial[0]) if fast is None else support
            if batch is not None:
                shown = draw_minibatch(shown, batch, key)
            embedded, asked = shown.x, initial[1]
            if fast is not None:
                embedded, asked, _ = embed(merge(leaves["model"], slow), shown)
            logits = head.apply(leaves["head"], embedded)
            value = support_loss(cross_entropy, logits, shown, present)
            value += head.penalty(leaves["head"], member)
            if query is None or asked is None:
                return value
            uncertainty = entropies(head.apply(leaves["head"], asked), present)
            return value + entropy * masked_mean(uncertainty, query.mask)

        def finish(leaves: PyTree) -> Adapted:
            kept = initial[2]
            if fast is not None:
                kept = embedding.statistics(merge(leaves["model"], slow), state, support)
            return Adapted(leaves, kept, present)

        return Problem(inner_loss, start, finish)

    adapt, path = by_inner_loop(inner, problem)

    def wait(params: PyTree, state: PyTree, support: Batch, key: Key) -> tuple[Adapted, Metrics]:
        check_support(support, ways)
        return Adapted(None, (), present_classes(support, ways), (support, key)), {}

    def predict(
        params: PyTree,
        state: PyTree,
        adapted: Adapted,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
    ) -> tuple[Array, PyTree]:
        if adapted.waiting is not None:
            asked = jnp.ones(jax.tree.leaves(x)[0].shape[0], jnp.float32) if mask is None else mask
            adapted, _ = adapt(params, state, *adapted.waiting, Query(x, asked))
        weights = params["model"]
        if fast is not None:
            weights = merge(adapted.fast["model"], partition(weights, fast)[1])
        embedded, state = embedding.on_query(weights, state, adapted.statistics, x, mask, key)
        return mask_absent_classes(
            head.apply(adapted.fast["head"], embedded), adapted.present
        ), state

    return Learner(init, wait, predict) if entropy else Learner(init, adapt, predict, path)


def entropies(logits: Array, present: Array) -> Array:
    """The entropy, in nats, of each prediction ``[n]`` over the classes that are present."""
    # Finite, as minus infinity times a probability of zero would be NaN.
    log_p = jax.nn.log_softmax(jnp.where(present[None], logits, MASK_VALUE))
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)
