"""Training from scratch on the support set: the baseline that every meta-learner must beat."""

from typing import NamedTuple

import jax
import optax

from jaxmeta.inner import unroll
from jaxmeta.learners.frames.gradient import gradient_learner
from jaxmeta.losses import cross_entropy
from jaxmeta.types import Array, Batch, Episode, Key, Learner, Loss, Metrics, Model, PyTree


class Adapted(NamedTuple):
    """A whole network, trained for this task alone."""

    params: PyTree
    state: PyTree
    adapted: PyTree


def from_scratch(
    model: Model,
    ways: int | None = None,
    *,
    steps: int = 100,
    learning_rate: float = 1e-2,
    loss: Loss = cross_entropy,
    normalization: str = "transductive",
) -> Learner:
    r"""Initializes a network anew for each task and trains it on the support set with Adam.

    .. math:: \theta_0 \sim \mathrm{init}, \qquad
              \theta_{t+1} = \mathrm{Adam}(\theta_t, \nabla L(\theta_t;\, \text{support}))

    Nothing is meta-learned: ``params`` is empty, and what ``adapt`` returns is the whole network.

    Args:
      model: its outputs are logits ``[n, ways]``, or regression values.
      ways: largest number of classes; ``None`` for regression.
      steps: training steps, each on the whole support set.
      learning_rate: Adam's step size.
      loss: the loss of the support set.
      normalization: ``"transductive"`` or ``"inductive"``.

    Returns:
      A learner with no parameters.

    Raises:
      ValueError: the normalization is ``"running"``, but a new network has no running averages.

    >>> from jaxmeta.nn import conv4
    >>> learner = from_scratch(conv4(5), ways=5)
    >>> learner.init(jax.random.key(0), None)  # nothing is meta-learned
    ((), ())
    """
    if normalization == "running":
        raise ValueError(
            "normalization is 'running', but a network trained from scratch has no averages: "
            "choose 'transductive' or 'inductive'."
        )
    # First order: nothing upstream of the training run is learned, so no second derivative is used.
    inner = unroll(optax.adam(learning_rate), steps, first_order=True)
    learner = gradient_learner(model, inner, ways, loss=loss, normalization=normalization)

    def init(key: Key, episode: Episode) -> tuple[PyTree, PyTree]:
        return (), ()

    def adapt(params: PyTree, state: PyTree, support: Batch, key: Key) -> tuple[Adapted, Metrics]:
        init_key, adapt_key = jax.random.split(key)
        own_params, own_state = learner.init(init_key, Episode(support, support))
        adapted, metrics = learner.adapt(own_params, own_state, support, adapt_key)
        return Adapted(own_params, own_state, adapted), metrics

    def predict(
        params: PyTree,
        state: PyTree,
        adapted: Adapted,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
    ) -> tuple[Array, PyTree]:
        outputs, _ = learner.predict(adapted.params, adapted.state, adapted.adapted, x, mask, key)
        return outputs, state

    return Learner(init, adapt, predict)
