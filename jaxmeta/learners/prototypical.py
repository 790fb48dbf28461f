"""Prototypical networks: the nearest class mean in a learned space."""

from jaxmeta.learners.frames.comparison import Comparison, comparison_learner, no_head_params
from jaxmeta.learners.frames.support import class_means, squared_distances
from jaxmeta.types import Learner, Model


def prototypical(model: Model, ways: int, *, normalization: str = "transductive") -> Learner:
    r"""Prototypical networks: a class is the mean of its embedded examples.

    .. math:: c_k = \frac{1}{|S_k|} \sum_{x \in S_k} f(x), \qquad z_k = -\lVert f(x) - c_k \rVert^2

    Args:
      model: an embedding f, ``[n, ...]`` to ``[n, d]``.
      ways: largest number of classes.
      normalization: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page.

    Returns:
      A learner whose parameters work for any number of ways.

    Raises:
      ValueError: the normalization is unknown, or (when adapting) the support set does not fit.

    References:
      Snell, Swersky and Zemel, 2017, Prototypical Networks for Few-shot Learning, equations 1, 2.

    >>> import jax
    >>> from jaxmeta.data import make_batch
    >>> from jaxmeta.nn import from_functions
    >>> given = from_functions(lambda key, x: {}, lambda params, x: x)  # features as they are
    >>> learner, params = prototypical(given, ways=2), {"model": {}}
    >>> support = make_batch([[0.0], [10.0]], [0, 1], ways=2)
    >>> adapted, _ = learner.adapt(params, {}, support, jax.random.key(0))
    >>> learner.predict(params, {}, adapted, support.x[:1] + 1)[0].tolist()
    [[-1.0, -81.0]]
    """
    comparison = Comparison(
        init=no_head_params,
        remember=lambda head_params, embedded, member: class_means(embedded, member),
        compare=lambda head_params, prototypes, embedded: -squared_distances(embedded, prototypes),
    )
    return comparison_learner(model, comparison, ways, normalization)
