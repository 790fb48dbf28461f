"""ANIL: adapt only the head."""

from jaxmeta.inner import sgd, unroll
from jaxmeta.learners.frames.heads import head_learner, learned_head
from jaxmeta.types import Learner, Model


def anil(
    model: Model,
    ways: int,
    *,
    steps: int = 5,
    learning_rate: float = 0.1,
    first_order: bool = False,
    normalization: str = "transductive",
) -> Learner:
    r"""ANIL: MAML whose inner loop adapts only the last, linear layer.

    .. math:: w_{t+1} = w_t - \alpha \nabla_w L(w_t, \theta;\, \text{support})

    The embedding theta and the initial head are meta-learned through these steps. Examples are
    embedded only once, so a step costs next to nothing.

    Args:
      model: an embedding, ``[n, ...]`` to ``[n, d]``; the head is added here.
      ways: largest number of classes.
      steps: T, inner steps.
      learning_rate: alpha.
      first_order: drop second derivatives.
      normalization: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page.

    Returns:
      A learner with parameters ``{"model", "head", "hyper"}``, the initial head under ``"head"``.

    Raises:
      ValueError: as for :func:`jaxmeta.learners.head_learner`.

    References:
      Raghu, Raghu, Bengio and Vinyals, 2020, Rapid Learning or Feature Reuse?, section 4.

    >>> from jaxmeta.nn import conv4
    >>> learner = anil(conv4(), ways=5)
    """
    inner = unroll(sgd(learning_rate), steps, first_order=first_order)
    return head_learner(model, learned_head(ways), inner, ways, normalization=normalization)
