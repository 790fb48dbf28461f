"""Siamese networks: do these two examples show the same class?"""

import jax.numpy as jnp

from jaxmeta.learners.frames.comparison import Comparison, comparison_learner
from jaxmeta.learners.frames.support import best_of_class, cosine_similarities
from jaxmeta.types import Array, Key, Learner, Model, PyTree


def siamese(
    model: Model, ways: int, *, similarity: str = "l1", normalization: str = "transductive"
) -> Learner:
    r"""Siamese networks: verify pairs, then answer with the class of the best match.

    A query x and a support example x' are of the same class with probability
    :math:`\sigma(s(x, x'))`, where s is one of

    .. math:: s = b - \sum_j a_j \lvert f(x)_j - f(x')_j \rvert, \qquad
              s = a \cos\big(f(x), f(x')\big) + b

    with learned a and b, and :math:`z_k = \max_{x' \in S_k} s(x, x')`. Train with
    :func:`jaxmeta.losses.pair_verification`: with one shot, it uses all pairs of a query and a
    support example, whereas the paper draws pairs at random. The paper's features are squashed by a
    sigmoid, and its distance is the first of the two.

    Args:
      model: an embedding f, ``[n, ...]`` to ``[n, d]``.
      ways: largest number of classes.
      similarity: ``"l1"`` or ``"cosine"``.
      normalization: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page.

    Returns:
      A learner whose parameters work for any number of ways.

    Raises:
      ValueError: the similarity or the normalization is unknown, or (when adapting) the support set
        does not fit.

    References:
      Koch, Zemel and Salakhutdinov, 2015, Siamese Neural Networks for One-shot Image Recognition,
      section 3.1.

    >>> from jaxmeta.losses import pair_verification
    >>> from jaxmeta.nn import conv4
    >>> from jaxmeta.objectives import episodic
    >>> objective = episodic(siamese(conv4(), ways=5), pair_verification)
    """
    if similarity not in ("l1", "cosine"):
        raise ValueError(f"similarity is {similarity!r}: choose 'l1' or 'cosine'.")

    def init(key: Key, embedded: Array) -> PyTree:
        if similarity == "cosine":
            return {"weight": jnp.float32(10), "bias": jnp.float32(-5)}
        features = embedded.shape[-1]
        return {"weight": jnp.full(features, 1 / features, jnp.float32), "bias": jnp.float32(0)}

    def remember(head_params: PyTree, embedded: Array, member: Array) -> PyTree:
        return embedded, member

    def compare(head_params: PyTree, memory: PyTree, embedded: Array) -> Array:
        support, member = memory
        if similarity == "cosine":
            pairs = (
                head_params["weight"] * cosine_similarities(embedded, support) + head_params["bias"]
            )
        else:
            apart = jnp.abs(embedded[:, None] - support[None])
            pairs = head_params["bias"] - apart @ head_params["weight"]
        return best_of_class(pairs, member)

    return comparison_learner(model, Comparison(init, remember, compare), ways, normalization)
