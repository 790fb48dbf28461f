"""Training from scratch on the support set: the baseline that every meta-learner must beat."""

import jax
import optax

from jaxmeta.inner import InnerLoop, unroll
from jaxmeta.learners.frames.gradient import gradient_learner
from jaxmeta.learners.frames.restarted import Learned, restarted
from jaxmeta.losses import cross_entropy
from jaxmeta.types import Episode, Key, Learner, Loss, Model, PyTree


def from_scratch(
    model: Model,
    ways: int | None = None,
    *,
    steps: int = 100,
    learning_rate: float = 1e-2,
    inner: InnerLoop | None = None,
    loss: Loss = cross_entropy,
    normalization: str = "transductive",
) -> Learner:
    r"""Initializes a network anew for each task and trains it on the support set.

    .. math:: \theta_0 \sim \mathrm{init}, \qquad
              \theta_{t+1} = \mathrm{Adam}(\theta_t, \nabla L(\theta_t;\, \text{support}))

    With Adam nothing is meta-learned: ``params`` is empty, and what ``adapt`` returns is the whole
    network. With an inner loop that learns about adapting, such as a learned optimizer, that alone
    is meta-learned.

    Args:
      model: its outputs are logits ``[n, ways]``, or regression values.
      ways: largest number of classes; ``None`` for regression.
      steps: training steps, each on the whole support set.
      learning_rate: Adam's step size.
      inner: an inner loop to train by, instead of these steps of Adam.
      loss: the loss of the support set.
      normalization: ``"transductive"`` or ``"inductive"``.

    Returns:
      A learner with parameters ``{"hyper"}``, or none if the inner loop learns nothing. It has a
      ``path`` if the inner loop has one.

    Raises:
      ValueError: the normalization is ``"running"``, but a new network has no running averages.

    >>> from jaxmeta.inner import coordinatewise_lstm
    >>> from jaxmeta.nn import conv4
    >>> learner = from_scratch(conv4(5), ways=5)
    >>> learner.init(jax.random.key(0), None)  # nothing is meta-learned
    ((), ())
    >>> loop = unroll(coordinatewise_lstm(), steps=20, first_order=True)
    >>> learned = from_scratch(conv4(5), ways=5, inner=loop)
    """
    if normalization == "running":
        raise ValueError(
            "normalization is 'running', but a network trained from scratch has no averages: "
            "choose 'transductive' or 'inductive'."
        )
    fixed = inner is None
    if inner is None:
        # First order: nothing upstream of the training run is learned.
        inner = unroll(optax.adam(learning_rate), steps, first_order=True)
    learner = gradient_learner(model, inner, ways, loss=loss, normalization=normalization)

    def init(key: Key, episode: Episode) -> tuple[PyTree, PyTree]:
        if fixed:
            return (), ()
        hyper = learner.init(key, episode)[0]["hyper"]
        return ({"hyper": hyper} if jax.tree.leaves(hyper) else ()), ()

    return restarted(learner, anew)._replace(init=init)


def anew(given: Learned, fresh: Learned) -> Learned:
    """A new network and state, for all but what is learned about adapting."""
    params, (new, state) = given[0], fresh
    return {**new, "hyper": params["hyper"]} if "hyper" in params else new, state
