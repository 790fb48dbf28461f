"""R2D2: ridge regression as the last layer, solved in closed form and differentiated through."""

import jax.numpy as jnp
from jax.scipy.linalg import solve

from jaxmeta.checks import check_positive
from jaxmeta.learners.frames.comparison import Comparison, comparison_learner
from jaxmeta.types import Array, Key, Learner, Model, PyTree


def ridge(
    model: Model, ways: int, *, penalty: float = 1.0, normalization: str = "transductive"
) -> Learner:
    r"""Ridge regression from embedded examples X to one-hot labels Y, in closed form.

    .. math:: W = X^\top (X X^\top + \lambda I)^{-1} Y, \qquad z = \alpha f(x) W + \beta

    The linear system has the size of the support set, whatever the number of features. The penalty
    lambda (kept positive by learning its logarithm), alpha and beta are meta-learned; under
    cross-entropy, beta changes nothing, as all classes share it.

    Args:
      model: an embedding f, ``[n, ...]`` to ``[n, d]``.
      ways: largest number of classes.
      penalty: initial value of lambda.
      normalization: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page.

    Returns:
      A learner whose parameters work for any number of ways.

    Raises:
      ValueError: the penalty is not positive, the normalization is unknown, or (when adapting) the
        support set does not fit.

    References:
      Bertinetto, Henriques, Torr and Vedaldi, 2019, Meta-learning with Differentiable Closed-form
      Solvers, equations 4 to 6.

    >>> from jaxmeta.nn import conv4
    >>> learner = ridge(conv4(), ways=5)
    """
    check_positive("penalty", penalty)

    def init(key: Key, embedded: Array) -> PyTree:
        values = {"log_penalty": jnp.log(penalty), "scale": 1.0, "bias": 0.0}
        return {name: jnp.float32(value) for name, value in values.items()}

    def remember(head_params: PyTree, embedded: Array, member: Array) -> Array:
        # An example without a label has a row of zeros, which adds nothing to the solution.
        x = embedded * jnp.sum(member, axis=1, keepdims=True)
        gram = x @ x.T + jnp.exp(head_params["log_penalty"]) * jnp.eye(x.shape[0], dtype=x.dtype)
        return x.T @ solve(gram, member, assume_a="pos")

    def compare(head_params: PyTree, weights: Array, embedded: Array) -> Array:
        return head_params["scale"] * (embedded @ weights) + head_params["bias"]

    return comparison_learner(model, Comparison(init, remember, compare), ways, normalization)
