"""Prototype matching networks: the mean of each class in full context, read by attention."""

import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.learners.frames.comparison import Comparison, comparison_learner
from jaxmeta.learners.frames.context import in_context, init_context, read_support
from jaxmeta.learners.frames.support import class_means, cosine_similarities
from jaxmeta.types import Array, Key, Learner, Model, PyTree


def prototype_matching(
    model: Model, ways: int, *, reads: int = 5, normalization: str = "transductive"
) -> Learner:
    r"""Matching networks in full context on class means instead of single examples.

    .. math:: c_k = \frac{1}{|S_k|} \sum_{x \in S_k} g(x), \qquad z_k = \cos(f(x),\, c_k)

    where g and f are those of :func:`jaxmeta.learners.matching` with full context, but f reads the
    means by attention. A class with more examples, real or imagined, therefore counts no more than
    another. The order of the support set matters.

    Args:
      model: an embedding, ``[n, ...]`` to ``[n, d]``.
      ways: largest number of classes.
      reads: how often f reads the means.
      normalization: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page.

    Returns:
      A learner whose parameters work for any number of ways.

    Raises:
      ValueError: ``reads`` is not positive, the normalization is unknown, or (when adapting) the
        support set does not fit.

    References:
      Wang, Girshick, Hebert and Hariharan, 2018, Low-Shot Learning from Imaginary Data, section 5.

    >>> from jaxmeta.nn import conv4
    >>> learner = prototype_matching(conv4(), ways=5)
    """
    check_count("reads", reads, least=1)

    def init(key: Key, embedded: Array) -> PyTree:
        return init_context(key, embedded.shape[-1])

    def remember(head_params: PyTree, embedded: Array, member: Array) -> PyTree:
        seen = in_context(head_params, embedded, jnp.sum(member, axis=1))
        return class_means(seen, member), jnp.sum(member, axis=0)

    def compare(head_params: PyTree, memory: PyTree, embedded: Array) -> Array:
        means, counts = memory
        read = read_support(head_params["read"], embedded, means, counts, reads)
        return cosine_similarities(read, means)

    return comparison_learner(model, Comparison(init, remember, compare), ways, normalization)
