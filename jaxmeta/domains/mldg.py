"""MLDG: learn on some domains in a way that also helps on another."""

from collections.abc import Mapping

import jax

from jaxmeta.checks import check_positive
from jaxmeta.inner import sgd, unroll
from jaxmeta.losses import cross_entropy
from jaxmeta.objectives import running_average
from jaxmeta.objectives.queries import check_episode
from jaxmeta.types import Array, Batch, Episode, Key, Loss, Model, Objective, PyTree, Report


def mldg(
    model: Model,
    loss: Loss = cross_entropy,
    metrics: Mapping[str, Loss] | None = None,
    *,
    learning_rate: float = 1e-2,
    weight: float = 1.0,
    first_order: bool = False,
    decay: float = 0.9,
) -> Objective:
    r"""The loss on some domains, and that on another after a step on them.

    .. math:: \ell(\theta) = F(\theta) + \beta\, G\big(\theta - \alpha \nabla F(\theta)\big)

    F is the loss of the support set, with examples of some domains, and G that of the query set, of
    another. It is MAML without adaptation at the end, for a domain of which nothing is known.

    Args:
      model: its outputs are logits of classes that are the same in all domains.
      loss: the loss of a batch.
      metrics: metrics of the held-out domain after the step, by name.
      learning_rate: alpha.
      weight: beta.
      first_order: drop second derivatives.
      decay: decay of the running averages of the support sets' statistics; see
        :func:`jaxmeta.objectives.running_average`.

    Returns:
      An objective over episodes as of :func:`jaxmeta.data.held_out_task`, with parameters and state
      ``{"model": ...}``. It reports ``seen_loss``, F, and ``held_out_loss``, G.

    Raises:
      ValueError: ``learning_rate`` or ``weight`` is not positive, ``decay`` is outside [0, 1] or,
        when called, the task is no episode.

    References:
      Li, Yang, Song and Hospedales, 2018, Learning to Generalize: Meta-Learning for Domain
      Generalization, equation 3.

    >>> from jaxmeta.multitask import one_network
    >>> from jaxmeta.nn import mlp
    >>> objective = mldg(one_network(mlp(2)), learning_rate=0.1)
    """
    check_positive("learning_rate", learning_rate)
    check_positive("weight", weight)
    step = unroll(sgd(learning_rate), steps=1, first_order=first_order)

    def init(key: Key, episode: Episode) -> tuple[PyTree, PyTree]:
        check_episode(episode)
        params, state = model.init(key, episode.support.x)
        return {"model": params}, {"model": state}

    def task_loss(
        params: PyTree, state: PyTree, episode: Episode, key: Key
    ) -> tuple[Array, Report]:
        check_episode(episode)

        def predicted(weights: PyTree, batch: Batch, key: Key) -> tuple[Array, PyTree]:
            return model.apply(weights, state["model"], batch.x, batch.mask, key)

        def of(outputs: Array, batch: Batch, each: Loss = loss) -> Array:
            return each(outputs, batch.y, batch.mask)

        keys = jax.random.split(key, 3)
        seen, held = episode
        outputs, used = predicted(params["model"], seen, keys[0])
        stepped, _ = step.run(
            lambda weights, key: of(predicted(weights, seen, key)[0], seen),
            params["model"],
            (),
            keys[1],
        )
        after, _ = predicted(stepped, held, keys[2])
        told = {"seen_loss": of(outputs, seen), "held_out_loss": of(after, held)}
        told |= {name: of(after, held, each) for name, each in (metrics or {}).items()}
        value = told["seen_loss"] + weight * told["held_out_loss"]
        return value, Report({"model": used}, told)

    return Objective(init, task_loss, running_average(decay))
