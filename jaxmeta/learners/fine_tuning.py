"""Transfer by fine-tuning: a classifier on pretrained features, trained on the support set."""

from collections.abc import Callable, Sequence

import optax

from jaxmeta.checks import check_positive
from jaxmeta.inner import then, unroll, with_rates, within
from jaxmeta.learners.frames.heads import cosine_head, head_learner, mean_head
from jaxmeta.types import Learner, Model

HEADS = ("linear", "cosine")


def fine_tuning(
    model: Model,
    ways: int,
    *,
    head: str = "linear",
    trained: str | Sequence[str] = "head",
    head_steps: int = 0,
    steps: int = 100,
    learning_rate: float = 1e-2,
    depth_factor: float = 1.0,
    temperature: float = 0.1,
    entropy: float = 0.0,
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
      trained: ``"head"``, the head alone; ``"all"``, the features too; or a list of their parts
        that are trained with the head, the lowest first, as in ``["block2", "block3"]``. An empty
        list is the head alone.
      head_steps: steps of the head alone before the others, so that the features are not first
        trained for a head that knows little.
      steps: training steps, each on the whole support set.
      learning_rate: Adam's step size.
      depth_factor: by how much the step size falls from the head to the last part, and from one
        part to the one below it; 1 for one rate.
      temperature: T, of the cosine head.
      entropy: weight of the query predictions' entropy; unless it is 0, fine-tuning is
        transductive, whatever the normalization.
      normalization: ``"transductive"``, ``"inductive"`` or ``"running"``; see the design page.

    Returns:
      A learner in which only the model's parameters are learned; they work for any number of ways.

    Raises:
      ValueError: the head is unknown, ``trained`` is neither, the temperature or the factor is not
        positive, a factor is given without parts, or as for :func:`jaxmeta.learners.head_learner`;
        when adapting, the model has no part of a name.

    References:
      Chen et al., 2019, A Closer Look at Few-shot Classification, section 3.2 (linear and cosine
      heads on frozen features); Dhillon et al., 2020, A Baseline for Few-shot Image
      Classification, sections 3.1 (class means) and 3.2 (entropy); Howard and Ruder, 2018,
      Universal Language Model Fine-tuning for Text Classification, section 3.2 (rates that fall
      with depth, by a factor of 2.6); Kumar et al., 2022, Fine-Tuning can Distort Pretrained
      Features and Underperform Out-of-Distribution (the head first).

    >>> from jaxmeta.nn import conv4
    >>> frozen = fine_tuning(conv4(), ways=5, head="cosine", normalization="running")
    >>> transductive = fine_tuning(conv4(), ways=5, steps=25, entropy=0.1, trained="all")
    """
    if head not in HEADS:
        raise ValueError(f"head is {head!r}: choose 'linear' or 'cosine'.")
    check_positive("temperature", temperature)
    classifier = mean_head() if head == "linear" else cosine_head(temperature)
    fast, parts = parts_of(trained)
    check_positive("depth_factor", depth_factor)
    if depth_factor != 1 and not parts:
        raise ValueError(
            f"depth_factor is {depth_factor} and trained {trained!r}: give the parts that are "
            "trained, the lowest first, as in ['block2', 'block3']."
        )
    optimizer = optax.adam(learning_rate)
    below = {f"model/{part}": depth_factor ** -(len(parts) - i) for i, part in enumerate(parts)}
    # First order: nothing upstream of the training on a task is learned.
    inner = unroll(with_rates(optimizer, below), steps, first_order=True)
    if head_steps:
        alone = unroll(optimizer, head_steps, first_order=True)
        inner = then(alone, inner, lambda name: within(name, "head"))
    return head_learner(
        model,
        classifier,
        inner,
        ways,
        fast=fast,
        entropy=entropy,
        normalization=normalization,
    )


def parts_of(trained: str | Sequence[str]) -> tuple[Callable[[str], bool] | None, Sequence[str]]:
    """Which parameters of the features are trained, by their names, and the parts they are in."""
    if trained == "all":
        return (lambda name: True), ()
    if trained == "head" or not trained:
        return None, ()
    if isinstance(trained, str):
        raise ValueError(
            f"trained is {trained!r}: choose 'head' or 'all', or give a list of parts, as in "
            "['block3']."
        )
    parts = tuple(trained)
    return (lambda name: any(within(name, part) for part in parts)), parts
