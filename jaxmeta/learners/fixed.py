"""A classifier of fixed classes: what is trained is evaluated as it is, without a support set."""

import jax

from jaxmeta.types import Array, Batch, Episode, Key, Learner, Metrics, Model, PyTree


def fixed_classifier(
    model: Model, head: Model | None = None, *, normalization: str = "running"
) -> Learner:
    r"""A network and its head, which learn nothing from a task.

    .. math:: z = h(f(x))

    For supervised learning, domain adaptation and multi-task learning, whose classes are the same
    in training and testing.

    Args:
      model: the embedding f.
      head: the classifier h on its features; ``None`` if the outputs of ``model`` are logits, as
        those of a multi-task network.
      normalization: ``"running"``, by the averages of training; or ``"transductive"``, by the
        statistics of the queries that are predicted together. The latter alone adapts a network
        with batch normalization to another domain, and is called AdaBN.

    Returns:
      A learner with parameters and state ``{"model", "head"}``, or ``{"model"}`` without a head,
      which does not use support sets.

    Raises:
      ValueError: the normalization is neither of these.

    References:
      Li, Wang, Shi, Liu and Hou, 2017, Revisiting Batch Normalization for Practical Domain
      Adaptation (AdaBN).

    >>> from jaxmeta.nn import conv4, mlp
    >>> learner = fixed_classifier(conv4(), mlp(10, hidden=()))
    """
    if normalization not in ("running", "transductive"):
        raise ValueError(
            f"normalization is {normalization!r}: choose 'running' or 'transductive', as a fixed "
            "classifier sees no support set."
        )
    own = normalization == "transductive"

    def init(key: Key, episode: Episode) -> tuple[PyTree, PyTree]:
        model_key, head_key = jax.random.split(key)
        x = episode.query.x
        params, state = model.init(model_key, x)
        if head is None:
            return {"model": params}, {"model": state}
        features, _ = model.apply(params, state, x)
        of_head, head_state = head.init(head_key, features)
        return {"model": params, "head": of_head}, {"model": state, "head": head_state}

    def adapt(params: PyTree, state: PyTree, support: Batch, key: Key) -> tuple[PyTree, Metrics]:
        return (), {}

    def predict(
        params: PyTree,
        state: PyTree,
        adapted: PyTree,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
    ) -> tuple[Array, PyTree]:
        keys = (None, None) if key is None else jax.random.split(key)
        features, used = model.apply(params["model"], state["model"], x, mask, keys[0], own)
        if head is None:
            return features, {"model": used}
        outputs, of_head = head.apply(params["head"], state["head"], features, mask, keys[1], own)
        return outputs, {"model": used, "head": of_head}

    return Learner(init, adapt, predict)
