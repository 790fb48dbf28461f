"""ADDA: an encoder of the target whose features a critic takes for those of the source."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.domains.critic import critic_loss
from jaxmeta.domains.frame import domains_of
from jaxmeta.losses import accuracy, cross_entropy
from jaxmeta.objectives import running_average
from jaxmeta.types import Array, Key, Metrics, Model, Objective, PyTree, Report


def adda(
    model: Model, critic: Model, head: Model, *, pretraining: int, decay: float = 0.9
) -> Objective:
    r"""Adversarial discriminative adaptation: a network for the source, then one for the target.

    .. math:: \text{first} \quad & \min_{f, h}\; \ell_S(h \circ f), \qquad f_S = f \\
              \text{then} \quad & \min_c\; \ell_{\text{critic}}\big(c(f_S(S)), c(f(T))\big), \qquad
              \min_f\; -\operatorname*{mean}_T \log p_c(\text{source} \mid f(t)) / 2

    The encoder of the target begins as that of the source, which stays as it was. The classifier
    has no gradient in the second part, and moves only by the optimizer's momentum and weight decay.

    Args:
      model: the encoder f.
      critic: the network c from features to two logits.
      head: the classifier h on the features of the source, then used on those of the target.
      pretraining: outer steps on the source alone.
      decay: decay of the running averages, which are of the source, then of the target; see
        :func:`jaxmeta.objectives.running_average`.

    Returns:
      An objective over ``{"source", "target"}``, with parameters ``{"model", "head", "critic"}``,
      whose state also holds the encoder of the source. It reports ``accuracy`` on the source in the
      first part, ``critic_accuracy`` and ``critic_loss`` in the second, and 0 for the others.

    Raises:
      ValueError: ``pretraining`` is not a whole number, ``decay`` is outside [0, 1] or, when
        called, the task does not hold two batches.

    References:
      Tzeng, Hoffman, Saenko and Darrell, 2017, Adversarial Discriminative Domain Adaptation,
      equations 6 to 9.

    >>> from jaxmeta.nn import mlp
    >>> objective = adda(mlp(8), mlp(2, hidden=(4,)), mlp(3, hidden=()), pretraining=100)
    """
    check_count("pretraining", pretraining)
    average = running_average(decay)

    def init(key: Key, task: Any) -> tuple[PyTree, PyTree]:
        source, _ = domains_of(task)
        model_key, head_key, critic_key = jax.random.split(key, 3)
        params, state = model.init(model_key, source.x)
        features, _ = model.apply(params, state, source.x, source.mask)
        of_head, head_state = head.init(head_key, features)
        of_critic, _ = critic.init(critic_key, features)
        begun = {"model": state, "head": head_state, "step": jnp.int32(0)}
        begun["source"] = {"params": params, "state": state}
        return {"model": params, "head": of_head, "critic": of_critic}, begun

    def loss(params: PyTree, state: PyTree, task: Any, key: Key) -> tuple[Array, Report]:
        source, target = domains_of(task)
        keys = jax.random.split(key)

        def on_source() -> tuple[Array, PyTree, Metrics]:
            features, used = model.apply(
                params["model"], state["model"], source.x, source.mask, keys[0]
            )
            logits, of_head = head.apply(
                params["head"], state["head"], features, source.mask, keys[1]
            )
            told = accuracy(logits, source.y, source.mask)
            none = jnp.zeros((), told.dtype)
            metrics = {"accuracy": told, "critic_accuracy": none, "critic_loss": none}
            value = cross_entropy(logits, source.y, source.mask)
            return value, {"model": used, "head": of_head}, metrics

        def on_target() -> tuple[Array, PyTree, Metrics]:
            own = state["source"]
            here, _ = model.apply(own["params"], own["state"], source.x, source.mask, keys[0])
            there, used = model.apply(
                params["model"], state["model"], target.x, target.mask, keys[1]
            )
            value, metrics = critic_loss(
                critic, params["critic"], here, there, source.mask, target.mask, how="swap"
            )
            none = jnp.zeros((), value.dtype)
            return value, {"model": used, "head": state["head"]}, {"accuracy": none, **metrics}

        # The step is that of all tasks, so only one of the two is computed.
        first = state["step"] < pretraining
        value, used, metrics = jax.lax.cond(first, on_source, on_target)
        return value, Report(used, metrics)

    def update(state: PyTree, params: PyTree, used: PyTree) -> PyTree:
        averaged = average({name: state[name] for name in used}, params, used)
        moved = {"params": params["model"], "state": averaged["model"]}
        first = state["step"] < pretraining
        source = jax.tree.map(lambda new, old: jnp.where(first, new, old), moved, state["source"])
        return {**averaged, "step": state["step"] + 1, "source": source}

    return Objective(init, loss, update)
