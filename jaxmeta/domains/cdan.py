"""CDAN: a critic that sees features together with the classes that are predicted from them."""

import jax
import jax.numpy as jnp

from jaxmeta.domains.critic import against_critic
from jaxmeta.domains.frame import Domain
from jaxmeta.losses import masked_mean
from jaxmeta.types import Array, Model, Objective


def cdan(
    model: Model,
    critic: Model,
    head: Model,
    *,
    steps: int | None = None,
    weight: float = 1.0,
    entropy: bool = True,
    how: str = "reverse",
    statistics: str = "together",
    decay: float = 0.9,
) -> Objective:
    r"""Conditional adversarial training: the critic sees every product of a feature and a class.

    .. math:: c\big(f(x) \otimes \mathrm{softmax}(h(f(x)))\big)

    so that the domains are aligned class by class. Predictions are not differentiated.

    Args:
      model: the encoder f.
      critic: the network c from ``d * classes`` products to two logits.
      head: the classifier h on its features.
      steps: as in :func:`jaxmeta.domains.dann`.
      weight: as in :func:`jaxmeta.domains.dann`.
      entropy: weigh each example by :func:`certainty` (CDAN+E).
      how: as in :func:`jaxmeta.domains.dann`.
      statistics: as in :func:`jaxmeta.domains.aligned`.
      decay: as in :func:`jaxmeta.domains.aligned`.

    Returns:
      An objective as that of :func:`jaxmeta.domains.dann`.

    Raises:
      ValueError: as for :func:`jaxmeta.domains.dann`.

    References:
      Long, Cao, Wang and Jordan, 2018, Conditional Adversarial Domain Adaptation, equations 4 to 9.

    >>> from jaxmeta.nn import mlp
    >>> objective = cdan(mlp(8), mlp(2, hidden=(4,)), mlp(3, hidden=()), steps=100)
    """

    def weights(domain: Domain) -> Array:
        if not entropy:
            return domain.mask
        return domain.mask * certainty(domain.logits, domain.mask)

    return against_critic(
        model,
        critic,
        head,
        lambda domain: products(domain.features, domain.logits),
        weights,
        how=how,
        weight=weight,
        steps=steps,
        statistics=statistics,
        decay=decay,
    )


def products(features: Array, logits: Array) -> Array:
    r"""Every product of a feature and a predicted probability, ``[n, d * classes]``.

    .. math:: \langle f \otimes g, f' \otimes g' \rangle = \langle f, f' \rangle\,
              \langle g, g' \rangle

    Args:
      features: f, ``[n, d]``.
      logits: ``[n, classes]``, whose softmax is g; it is not differentiated.

    >>> products(jnp.array([[2.0, 3.0]]), jnp.array([[0.0, 0.0]])).tolist()
    [[1.0, 1.0, 1.5, 1.5]]
    """
    chances = jax.lax.stop_gradient(jax.nn.softmax(logits))
    return (features[:, :, None] * chances[:, None]).reshape(len(features), -1)


def certainty(logits: Array, mask: Array) -> Array:
    r"""Weights of examples ``[n]``, which are greater where the prediction is surer.

    .. math:: w_i \propto 1 + e^{-H(g_i)}, \qquad \operatorname*{mean}_i w_i = 1

    Args:
      logits: ``[n, classes]``, whose softmax is g; they are not differentiated.
      mask: ``[n]``; the mean is over these.

    >>> certainty(jnp.array([[50.0, 0.0], [0.0, 0.0]]), jnp.ones(2)).tolist()  # as 2 to 1.5
    [1.142..., 0.857...]
    """
    logs = jax.nn.log_softmax(jax.lax.stop_gradient(logits))
    weights = 1 + jnp.exp(jnp.sum(jnp.exp(logs) * logs, axis=1))
    return weights / masked_mean(weights, mask)
