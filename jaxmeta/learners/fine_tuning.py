"""Transfer by fine-tuning: a classifier on pretrained features, trained on the support set."""

import optax

from jaxmeta.checks import check_positive
from jaxmeta.inner import unroll
from jaxmeta.learners.frames.heads import cosine_head, head_learner, mean_head
from jaxmeta.types import Learner, Model

HEADS = ("linear", "cosine")


def fine_tuning(
    model: Model,
    ways: int,
    *,
    head: str = "linear",
    steps: int = 100,
    learning_rate: float = 1e-2,
    temperature: float = 0.1,
    entropy: float = 0.0,
    whole: bool = False,
    normalization: str = "transductive",
) -> Learner:
    r"""Trains a head that starts from the class means on the support set, with Adam.

    .. math:: \text{linear: } z_k = w_k^\top f(x) + b_k, \qquad
              \text{cosine: } z_k = \cos(w_k, f(x)) / T + b_k, \qquad w_k = c_k,\; b_k = 0

    where c is the mean of a class's features, each scaled to unit length so that no class is
    favored for the length of its features. With one shot, both heads start as nearest-mean
    classifiers. Adam then minimizes the cross-entropy of the support set, plus ``entropy`` times
    the mean entropy of the predictions on the query set.

    Args:
      model: features f, ``[n, ...]`` to ``[n, d]``, pretrained, for example by
        :func:`jaxmeta.pretraining.supervised`.
      ways: largest number of classes.
      head: ``"linear"`` or ``"cosine"``.
      steps: training steps, each on the whole support set.
      learning_rate: Adam's step size.
      temperature: T, of the cosine head.
      entropy: weight of the query predictions' entropy; unless it is 0, fine-tuning is
        transductive, whatever the normalization.
      whole: train the features too, not only the head.
      normalization: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page.

    Returns:
      A learner in which only the model's parameters are learned; they work for any number of ways.

    Raises:
      ValueError: the head is unknown, the temperature is not positive, or as for
        :func:`jaxmeta.learners.head_learner`.

    References:
      Chen et al., 2019, A Closer Look at Few-shot Classification, section 3.2 (linear and cosine
      heads on frozen features); Dhillon et al., 2020, A Baseline for Few-shot Image
      Classification, sections 3.1 (class means) and 3.2 (entropy).

    >>> from jaxmeta.nn import conv4
    >>> frozen = fine_tuning(conv4(), ways=5, head="cosine", normalization="running")
    >>> transductive = fine_tuning(conv4(), ways=5, steps=25, entropy=0.1, whole=True)
    """
    if head not in HEADS:
        raise ValueError(f"head is {head!r}: choose 'linear' or 'cosine'.")
    check_positive("temperature", temperature)
    classifier = mean_head() if head == "linear" else cosine_head(temperature)
    # First order: nothing upstream of the training on a task is learned.
    inner = unroll(optax.adam(learning_rate), steps, first_order=True)
    return head_learner(
        model,
        classifier,
        inner,
        ways,
        whole=whole,
        entropy=entropy,
        normalization=normalization,
    )
