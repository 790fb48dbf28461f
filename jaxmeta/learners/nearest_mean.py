"""Transfer of features: the nearest class mean of normalized features, with nothing trained."""

from jaxmeta.learners.frames.comparison import Comparison, comparison_learner, no_head_params
from jaxmeta.learners.frames.support import class_means, squared_distances, to_unit_length
from jaxmeta.types import Learner, Model


def nearest_mean(model: Model, ways: int, *, normalization: str = "transductive") -> Learner:
    r"""The nearest class mean of features scaled to unit length.

    .. math:: \hat f(x) = \frac{f(x)}{\lVert f(x) \rVert}, \qquad
              c_k = \frac{1}{|S_k|} \sum_{x \in S_k} \hat f(x), \qquad
              z_k = -\lVert \hat f(x) - c_k \rVert^2

    Args:
      model: features f, ``[n, ...]`` to ``[n, d]``, pretrained, for example by
        :func:`jaxmeta.pretraining.supervised`.
      ways: largest number of classes.
      normalization: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page.

    Returns:
      A learner whose parameters work for any number of ways.

    Raises:
      ValueError: the normalization is unknown, or (when adapting) the support set does not fit.

    References:
      Wang, Chao, Weinberger and van der Maaten, 2019, SimpleShot, section 3 (L2N).

    >>> from jaxmeta.nn import conv4
    >>> learner = nearest_mean(conv4(), ways=5, normalization="running")
    """
    comparison = Comparison(
        init=no_head_params,
        remember=lambda head_params, embedded, member: class_means(
            to_unit_length(embedded), member
        ),
        compare=lambda head_params, means, embedded: (
            -squared_distances(to_unit_length(embedded), means)
        ),
    )
    return comparison_learner(model, comparison, ways, normalization)
