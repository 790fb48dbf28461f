"""None of the above: a learner that can also say that a query is of no class of the support set."""

from typing import Any

import jax.numpy as jnp

from jaxmeta.types import Array, Batch, Episode, Key, Learner, Metrics, PyTree


def rejecting(learner: Learner) -> Learner:
    r"""One more output of any learner of classes, for queries of none of them.

    .. math:: z_{\text{none}} = a\, \operatorname*{mean}_k z_k + b

    where the mean is over the classes that are present, and a and b are meta-learned. They begin at
    1 and 0, an average class. With a of 0 it is a threshold: of distances, if the outputs are
    distances.

    Args:
      learner: any learner whose outputs are logits ``[n, ways]``.

    Returns:
      A learner with logits ``[n, ways + 1]`` and parameters ``{"learner", "none"}``, for episodes
      with queries from ``outside``, whose label is ``ways``; see
      :func:`jaxmeta.data.class_source`.

    References:
      Gao et al., 2019, FewRel 2.0, section 4.3. (In the code of that paper, prototypical networks
      have ``min(z) - 1`` for none, which is never the largest.)

    >>> from jaxmeta.learners import prototypical
    >>> from jaxmeta.nn import conv4
    >>> learner = rejecting(prototypical(conv4(), ways=5))
    """

    def init(key: Key, episode: Episode) -> tuple[PyTree, PyTree]:
        params, state = learner.init(key, episode)
        none = {"scale": jnp.ones((), jnp.float32), "offset": jnp.zeros((), jnp.float32)}
        return {"learner": params, "none": none}, state

    def adapt(params: PyTree, state: PyTree, support: Batch, key: Key) -> tuple[Any, Metrics]:
        return learner.adapt(params["learner"], state, support, key)

    def predict(
        params: PyTree,
        state: PyTree,
        adapted: PyTree,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
    ) -> tuple[Array, PyTree]:
        logits, state = learner.predict(params["learner"], state, adapted, x, mask, key)
        present = jnp.isfinite(logits)  # absent classes have a logit of minus infinity
        total = jnp.sum(jnp.where(present, logits, 0), axis=1)
        mean = total / jnp.maximum(jnp.sum(present.astype(logits.dtype), axis=1), 1)
        none = params["none"]["scale"] * mean + params["none"]["offset"]
        return jnp.concatenate([logits, none.astype(logits.dtype)[:, None]], axis=1), state

    path = learner.path
    if path is None:
        return Learner(init, adapt, predict)
    return Learner(
        init,
        adapt,
        predict,
        lambda params, *given: path(params["learner"], *given),
    )
