"""Matching networks: nearest neighbors by attention, optionally embedded in full context."""

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.learners.frames.comparison import Comparison, comparison_learner
from jaxmeta.learners.frames.context import in_context, init_context, read_support
from jaxmeta.learners.frames.support import MASK_VALUE, cosine_similarities
from jaxmeta.types import Array, Key, Learner, Model, PyTree


def matching(
    model: Model,
    ways: int,
    *,
    full_context: bool = False,
    reads: int = 5,
    normalization: str = "transductive",
) -> Learner:
    r"""Matching networks: the labels of the support set, weighted by attention.

    .. math:: p(y \mid x) = \sum_i \frac{e^{\cos(f(x),\, g(x_i))}}{\sum_j e^{\cos(f(x),\, g(x_j))}}
              \, [y_i = y]

    The logits are the logarithms, up to a constant. (Cosines of non-negative features differ by at
    most 1, so no prediction is certain; what is learned is their order.) Without full context, f
    and g are both the embedding. With it, g adds to each embedded support example the output of a
    bidirectional LSTM over the support set, and f is an LSTM that reads the support set by
    attention ``reads`` times:
    :math:`h_k = \mathrm{LSTM}(f'(x), [h_{k-1}, r_{k-1}]) + f'(x)` with
    :math:`r_{k-1} = \sum_i \mathrm{softmax}_i(h_{k-1}^\top g(x_i))\, g(x_i)`. The order of the
    support set then matters.

    Args:
      model: an embedding f', ``[n, ...]`` to ``[n, d]``.
      ways: largest number of classes.
      full_context: embed with full context.
      reads: K, how often f reads the support set; used only with full context.
      normalization: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page.

    Returns:
      A learner whose parameters work for any number of ways.

    Raises:
      ValueError: ``reads`` is not positive, the normalization is unknown, or (when adapting) the
        support set does not fit.

    References:
      Vinyals et al., 2016, Matching Networks for One Shot Learning, equations 1 to 6, appendix A.

    >>> from jaxmeta.nn import conv4
    >>> learner = matching(conv4(), ways=5)
    >>> with_context = matching(conv4(), ways=5, full_context=True, reads=3)
    """
    check_count("reads", reads, least=1)

    def init(key: Key, embedded: Array) -> PyTree:
        if not full_context:
            return ()
        return init_context(key, embedded.shape[-1])

    def remember(head_params: PyTree, embedded: Array, member: Array) -> PyTree:
        if not full_context:
            return embedded, member
        return in_context(head_params, embedded, jnp.sum(member, axis=1)), member

    def compare(head_params: PyTree, memory: PyTree, embedded: Array) -> Array:
        support, member = memory
        if full_context:
            shown = jnp.sum(member, axis=1)
            embedded = read_support(head_params["read"], embedded, support, shown, reads)
        similar = cosine_similarities(embedded, support)
        return jax.nn.logsumexp(
            jnp.where(member[None] > 0, similar[:, :, None], MASK_VALUE), axis=1
        )

    return comparison_learner(model, Comparison(init, remember, compare), ways, normalization)
