"""Training from scratch on the support set: the baseline that every meta-learner must beat."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxmeta.inner import InnerLoop, unroll
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

    def initialized(params: PyTree, support: Batch, key: Key) -> tuple[PyTree, PyTree]:
        own, state = learner.init(key, Episode(support, support))
        return {**own, **params} if params else own, state

    def adapt(params: PyTree, state: PyTree, support: Batch, key: Key) -> tuple[Adapted, Metrics]:
        init_key, adapt_key = jax.random.split(key)
        own, own_state = initialized(params, support, init_key)
        adapted, metrics = learner.adapt(own, own_state, support, adapt_key)
        return Adapted(own, own_state, adapted), metrics

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

    own_path = learner.path
    if own_path is None:
        return Learner(init, adapt, predict)

    def path(params: PyTree, state: PyTree, support: Batch, key: Key) -> tuple[Any, Metrics]:
        init_key, adapt_key = jax.random.split(key)
        own, own_state = initialized(params, support, init_key)
        rows, metrics = own_path(own, own_state, support, adapt_key)
        count = jax.tree.leaves(rows)[0].shape[0]
        own, own_state = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), (own, own_state)
        )
        return Adapted(own, own_state, rows), metrics

    return Learner(init, adapt, predict, path)
