"""Transfer of features: regularized logistic regression."""

import jax.numpy as jnp

from jaxmeta.checks import check_positive
from jaxmeta.inner import minimize
from jaxmeta.learners.frames.comparison import no_head_params
from jaxmeta.learners.frames.heads import Head, affine, head_learner
from jaxmeta.learners.frames.support import to_unit_length
from jaxmeta.types import Array, Learner, Model, PyTree


def logistic_regression(
    model: Model,
    ways: int,
    *,
    inverse_penalty: float = 1.0,
    steps: int = 50,
    normalization: str = "transductive",
) -> Learner:
    r"""Multinomial logistic regression on features of unit length, solved by L-BFGS.

    .. math:: \min_{W, b}\; \frac{1}{2C} \lVert W \rVert^2
              - \sum_{(x, y) \in S} \log \mathrm{softmax}(W^\top \hat f(x) + b)_y

    Args:
      model: features f, ``[n, ...]`` to ``[n, d]``, pretrained, for example by
        :func:`jaxmeta.pretraining.supervised`.
      ways: largest number of classes.
      inverse_penalty: C.
      steps: maximum number of L-BFGS steps.
      normalization: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page.

    Returns:
      A learner in which only the model's parameters are learned; they work for any number of ways.
      No gradient flows through the solution.

    Raises:
      ValueError: C is not positive, or as for :func:`jaxmeta.learners.head_learner`.

    References:
      Tian et al., 2020, Rethinking Few-Shot Image Classification, section 3.2 (RFS).

    >>> from jaxmeta.nn import conv4
    >>> learner = logistic_regression(conv4(), ways=5, normalization="running")
    """
    check_positive("inverse_penalty", inverse_penalty)

    def start(head_params: PyTree, embedded: Array, member: Array) -> PyTree:
        kernel = jnp.zeros((embedded.shape[-1], ways), embedded.dtype)
        return {"kernel": kernel, "bias": jnp.zeros(ways, embedded.dtype)}

    def apply(weights: PyTree, embedded: Array) -> Array:
        return affine(weights, to_unit_length(embedded))

    def penalty(weights: PyTree, member: Array) -> Array:
        # The loss is the mean over examples, whereas the formula has their sum.
        scale = inverse_penalty * jnp.maximum(jnp.sum(member), 1)
        return jnp.sum(weights["kernel"] ** 2) / (2 * scale)

    return head_learner(
        model,
        Head(no_head_params, start, apply, penalty),
        minimize(steps),
        ways,
        normalization=normalization,
    )
