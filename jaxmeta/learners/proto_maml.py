"""Proto-MAML: MAML whose head starts as the prototypical network of the task."""

from jaxmeta.inner import sgd, unroll
from jaxmeta.learners.frames.heads import head_learner, prototype_head
from jaxmeta.types import Learner, Model


def proto_maml(
    model: Model,
    ways: int,
    *,
    steps: int = 5,
    learning_rate: float = 0.01,
    first_order: bool = False,
    normalization: str = "transductive",
) -> Learner:
    r"""Proto-MAML: adapt the embedding, and a head that starts from the class means c.

    .. math:: W_k = 2 c_k, \qquad b_k = -\lVert c_k \rVert^2, \qquad
              w \leftarrow w - \alpha \nabla L(w;\, \text{support}), \quad w = (\theta, W, b)

    The outer gradient flows through the class means too. With no steps, it is a prototypical
    network.

    Args:
      model: an embedding, ``[n, ...]`` to ``[n, d]``; the head is added here.
      ways: largest number of classes.
      steps: T, inner steps.
      learning_rate: alpha.
      first_order: drop second derivatives.
      normalization: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page.

    Returns:
      A learner with parameters ``{"model", "head", "hyper"}``, of which only the model's are not
      empty; they work for any number of ways.

    Raises:
      ValueError: as for :func:`jaxmeta.learners.head_learner`.

    References:
      Triantafillou et al., 2020, Meta-Dataset, section 3.2.

    >>> from jaxmeta.nn import conv4
    >>> learner = proto_maml(conv4(), ways=5, steps=3)
    """
    inner = unroll(sgd(learning_rate), steps, first_order=first_order)
    return head_learner(
        model, prototype_head(), inner, ways, fast=lambda name: True, normalization=normalization
    )
