"""A critic that tells two domains apart, and features that it cannot tell apart."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxmeta.domains.frame import Domain, aligned
from jaxmeta.domains.reversal import reverse
from jaxmeta.losses import accuracy, cross_entropy
from jaxmeta.types import Array, Key, Metrics, Model, Objective, PyTree


def rising_strength(progress: Array, speed: float = 10.0) -> Array:
    r"""How much a critic counts for the features: from 0 to 1 over the run.

    .. math:: \lambda(p) = \frac{2}{1 + e^{-10 p}} - 1

    Args:
      progress: p, from 0 to 1.
      speed: the factor of p.

    References:
      Ganin et al., 2016, section 5.2.2.

    >>> rising_strength(jnp.array([0.0, 0.1, 1.0])).round(3).tolist()
    [0.0, 0.462..., 1.0]
    """
    return jnp.tanh(speed * progress / 2)


def critic_loss(
    critic: Model,
    params: PyTree,
    source: Array,
    target: Array,
    source_mask: Array,
    target_mask: Array,
    *,
    strength: float | Array = 1.0,
    how: str = "reverse",
) -> tuple[Array, Metrics]:
    r"""What a critic loses that tells two domains apart, and what their features lose to it.

    .. math:: \ell = -\tfrac12 \operatorname*{mean}_{S} \log p(\text{source} \mid s)
                     -\tfrac12 \operatorname*{mean}_{T} \log p(\text{target} \mid t)

    The critic always minimizes it. The features maximize it (``"reverse"``), or minimize the same
    loss with the domains exchanged (``"swap"``). Both push a feature in the same direction;
    swapped labels push :math:`p / (1 - p)` times as hard, where p is the probability of the true
    domain, so they still push when the critic is sure.

    Args:
      critic: a network from features to two logits.
      params: its parameters.
      source: features ``[n, d]``.
      target: features ``[m, d]``.
      source_mask: ``[n]``; also weights of the examples, whose mean is 1.
      target_mask: ``[m]``.
      strength: factor of the gradient of the features; the critic's is unchanged.
      how: ``"reverse"`` or ``"swap"``.

    Returns:
      The loss, whose value is the critic's for both; and the metrics ``critic_accuracy``, the
      mean of those on both domains, 0.5 when they cannot be told apart, and ``critic_loss``.

    Raises:
      ValueError: ``how`` is neither, or there are not two logits.

    References:
      Ganin et al., 2016, equation 9 (reverse); Tzeng, Hoffman, Saenko and Darrell, 2017,
      Adversarial Discriminative Domain Adaptation, equation 7 (swap).
    """
    if how not in HOW:
        raise ValueError(f"how is {how!r}: choose {' or '.join(map(repr, HOW))}.")
    both, count = jnp.concatenate([source, target]), len(source)
    domains = (jnp.arange(len(both)) >= count).astype(jnp.int32)  # 0 is the source

    def told(params: PyTree, features: Array, domains: Array) -> tuple[Array, Array]:
        logits, _ = critic.apply(params, {}, features)
        if logits.ndim != 2 or logits.shape[1] != 2:
            raise ValueError(
                f"The critic's outputs have shape {logits.shape}: give it two outputs, one for "
                "each domain."
            )
        here = cross_entropy(logits[:count], domains[:count], source_mask)
        there = cross_entropy(logits[count:], domains[count:], target_mask)
        return (here + there) / 2, logits

    if how == "reverse":
        loss, logits = told(params, reverse(both, strength), domains)
    else:
        loss, logits = told(params, jax.lax.stop_gradient(both), domains)
        fooled, _ = told(jax.lax.stop_gradient(params), both, 1 - domains)
        # Its value is not the critic's, and its gradient is that of the features alone.
        loss = loss + strength * (fooled - jax.lax.stop_gradient(fooled))
    here, there = ((mask > 0).astype(jnp.float32) for mask in (source_mask, target_mask))
    right = accuracy(logits[:count], domains[:count], here)
    right += accuracy(logits[count:], domains[count:], there)
    return loss, {"critic_accuracy": right / 2, "critic_loss": loss}


HOW = ("reverse", "swap")
"""How features oppose a critic."""


def against_critic(
    model: Model,
    critic: Model,
    head: Model | None,
    inputs: Callable[[Domain], Array],
    weights: Callable[[Domain], Array],
    *,
    how: str,
    **options: Any,
) -> Objective:
    """What DANN and CDAN share: a penalty by a critic, whose strength rises over the run.

    Args:
      model: the encoder.
      critic: a network from ``inputs`` to two logits.
      head: as in :func:`jaxmeta.domains.aligned`.
      inputs: what the critic sees of a domain ``[n, d]``.
      weights: weights of its examples ``[n]``.
      how: as in :func:`critic_loss`.
      **options: of :func:`jaxmeta.domains.aligned`.
    """

    def parts(key: Key, domain: Domain) -> dict[str, PyTree]:
        return {"critic": critic.init(key, inputs(domain))[0]}

    def penalty(
        params: PyTree, source: Domain, target: Domain, progress: Array, key: Key
    ) -> tuple[Array, Metrics]:
        return critic_loss(
            critic,
            params["critic"],
            inputs(source),
            inputs(target),
            weights(source),
            weights(target),
            strength=rising_strength(progress),
            how=how,
        )

    return aligned(model, head, penalty, parts, **options)
