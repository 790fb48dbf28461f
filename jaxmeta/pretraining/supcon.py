"""Supervised contrastive learning: all views of a class belong together."""

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_positive
from jaxmeta.learners.frames.support import MASK_VALUE, to_unit_length
from jaxmeta.losses import masked_mean
from jaxmeta.pretraining.joint_embedding import joint_embedding
from jaxmeta.pretraining.shapes import check_shapes
from jaxmeta.types import Array, Model, Objective


def supcon(
    model: Model, projector: Model, *, temperature: float = 0.2, decay: float = 0.9
) -> Objective:
    r"""Contrast between the classes of a batch, by :func:`supcon_loss`.

    Args:
      model: the encoder.
      projector: the network on top of it; a :func:`jaxmeta.nn.projector` of one hidden layer.
      temperature: applied to the cosines.
      decay: as in :func:`jaxmeta.pretraining.joint_embedding`.

    Returns:
      An objective over batches of two views; see :func:`jaxmeta.pretraining.joint_embedding`.

    Raises:
      ValueError: the temperature is not positive, or as for
        :func:`jaxmeta.pretraining.joint_embedding`.

    References:
      Khosla et al., 2020, Supervised Contrastive Learning, section 3.2.

    >>> from jaxmeta.nn import conv4, projector
    >>> objective = supcon(conv4(), projector(128))
    """
    check_positive("temperature", temperature)
    return joint_embedding(
        model,
        projector,
        lambda first, second, batch: supcon_loss(first, second, batch.y, batch.mask, temperature),
        decay,
    )


def supcon_loss(
    first: Array, second: Array, y: Array, mask: Array, temperature: float = 0.2
) -> Array:
    r"""The mean cross-entropy of picking each other view of a view's class, in nats.

    .. math:: -\frac{1}{2n} \sum_{i=1}^{2n} \frac{1}{|P(i)|} \sum_{p \in P(i)} \log
              \frac{e^{\hat z_i \cdot \hat z_p / \tau}}
                   {\sum_{k \neq i} e^{\hat z_i \cdot \hat z_k / \tau}}

    where P(i) are the other views with the label of i. If no two images share a label, it equals
    :func:`jaxmeta.pretraining.simclr_loss`. The authors' code multiplies it by
    :math:`\tau / 0.07`, which the learning rate makes up for.

    Args:
      first: outputs of the first view ``[n, d]``.
      second: outputs of the second ``[n, d]``.
      y: labels ``[n]``.
      mask: ``[n]``; padding is neither an anchor nor compared with one.
      temperature: tau.

    Raises:
      ValueError: the shapes differ from these.

    References:
      Khosla et al., 2020, equation 2 (the sum outside the logarithm).

    >>> alike, y = jnp.ones((3, 2)), jnp.array([0, 0, 1])
    >>> jnp.exp(supcon_loss(alike, alike, y, jnp.ones(3))).round(4).item()
    5.0
    """
    check_shapes("first [n, d], second [n, d], y [n] and mask [n]", first, second, y, mask)
    z, y = to_unit_length(jnp.concatenate([first, second])), jnp.concatenate([y, y])
    there = jnp.concatenate([mask, mask]) > 0
    others = ~jnp.eye(y.size, dtype=bool) & there[None]
    log_p = jax.nn.log_softmax(jnp.where(others, z @ z.T / temperature, MASK_VALUE))
    positive = (others & (y[:, None] == y[None])).astype(log_p.dtype)
    count = jnp.maximum(jnp.sum(positive, axis=1), 1)
    return -masked_mean(jnp.sum(positive * log_p, axis=1) / count, there)
