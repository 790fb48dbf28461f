"""The learning rate of domain-adversarial training."""

import jax.numpy as jnp
import optax

from jaxmeta.checks import check_count, check_positive
from jaxmeta.types import Array


def annealed(
    init_value: float, decay_steps: int, speed: float = 10.0, power: float = 0.75
) -> optax.Schedule:
    r"""A learning rate that falls like a power of the progress.

    .. math:: \mu_p = \frac{\mu_0}{(1 + \alpha p)^\beta}

    Args:
      init_value: :math:`\mu_0`.
      decay_steps: outer steps of the run, over which p goes from 0 to 1.
      speed: :math:`\alpha`.
      power: :math:`\beta`.

    Raises:
      ValueError: an argument is not positive.

    References:
      Ganin et al., 2016, section 5.2.2.

    >>> float(annealed(0.01, decay_steps=10)(0)), round(float(annealed(0.01, 10)(10)), 6)
    (0.009999..., 0.001656)
    """
    check_count("decay_steps", decay_steps, least=1)
    for name, value in (("init_value", init_value), ("speed", speed), ("power", power)):
        check_positive(name, value)

    def schedule(count: Array) -> Array:
        progress = jnp.minimum(jnp.asarray(count, jnp.float32) / decay_steps, 1)
        return init_value / (1 + speed * progress) ** power

    return schedule
