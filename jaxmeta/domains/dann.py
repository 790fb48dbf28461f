"""DANN: features from which a critic cannot tell the domain."""

from jaxmeta.domains.critic import against_critic
from jaxmeta.types import Model, Objective


def dann(
    model: Model,
    critic: Model,
    head: Model | None = None,
    *,
    steps: int | None = None,
    weight: float = 1.0,
    how: str = "reverse",
    statistics: str = "together",
    decay: float = 0.9,
) -> Objective:
    r"""Domain-adversarial training: a critic tells the domains apart, and the encoder opposes it.

    .. math:: \min_{f, h}\, \max_c\; \ell_S(h \circ f)
              - \lambda(p)\, \ell_{\text{critic}}\big(c(f(S)), c(f(T))\big)

    Args:
      model: the encoder f.
      critic: the network c from features to two logits.
      head: the classifier h on its features; ``None`` as in :func:`jaxmeta.domains.aligned`.
      steps: outer steps of the run, over which the strength of the opposition rises as in
        :func:`jaxmeta.domains.rising_strength`; ``None`` for full strength from the start.
      weight: weight of the critic's loss, for the critic and for the encoder.
      how: how the encoder opposes the critic; see :func:`jaxmeta.domains.critic_loss`.
      statistics: as in :func:`jaxmeta.domains.aligned`.
      decay: as in :func:`jaxmeta.domains.aligned`.

    Returns:
      An objective over ``{"source", "target"}``, with parameters ``{"model", "head", "critic"}``;
      see :func:`jaxmeta.domains.aligned`.

    Raises:
      ValueError: as for :func:`jaxmeta.domains.aligned` and :func:`jaxmeta.domains.critic_loss`.

    References:
      Ganin et al., 2016, Domain-Adversarial Training of Neural Networks, equations 9 to 14.

    >>> from jaxmeta.nn import mlp
    >>> objective = dann(mlp(8), mlp(2, hidden=(4,)), mlp(3, hidden=()), steps=100)
    """
    return against_critic(
        model,
        critic,
        head,
        lambda domain: domain.features,
        lambda domain: domain.mask,
        how=how,
        weight=weight,
        steps=steps,
        statistics=statistics,
        decay=decay,
    )
