"""SimCLR: each view must pick out the other view of its image among all views."""

import jax.numpy as jnp

from jaxmeta.checks import check_positive
from jaxmeta.pretraining.joint_embedding import joint_embedding
from jaxmeta.pretraining.shapes import check_shapes
from jaxmeta.pretraining.supcon import supcon_loss
from jaxmeta.types import Array, Model, Objective


def simclr(
    model: Model, projector: Model, *, temperature: float = 0.2, decay: float = 0.9
) -> Objective:
    r"""Contrast between the images of a batch, by :func:`simclr_loss`.

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
      Chen, Kornblith, Norouzi and Hinton, 2020, A Simple Framework for Contrastive Learning of
      Visual Representations, section 2.1.

    >>> from jaxmeta.nn import conv4, projector
    >>> objective = simclr(conv4(), projector(128), temperature=0.5)
    """
    check_positive("temperature", temperature)
    return joint_embedding(
        model,
        projector,
        lambda first, second, batch: simclr_loss(first, second, batch.mask, temperature),
        decay,
    )


def simclr_loss(first: Array, second: Array, mask: Array, temperature: float = 0.2) -> Array:
    r"""The cross-entropy of picking a view's counterpart among all other views (NT-Xent), in nats.

    .. math:: -\frac{1}{2n} \sum_{i=1}^{2n} \log
              \frac{e^{\hat z_i \cdot \hat z_{j(i)} / \tau}}
                   {\sum_{k \neq i} e^{\hat z_i \cdot \hat z_k / \tau}}

    where :math:`\hat z` are the outputs of both views at unit length and j(i) is the other view of
    i's image. The authors' code adds the means of the two views, which is twice this.

    Args:
      first: outputs of the first view ``[n, d]``.
      second: outputs of the second ``[n, d]``.
      mask: ``[n]``; padding is neither an anchor nor a negative.
      temperature: tau.

    Raises:
      ValueError: the shapes differ from these.

    References:
      Chen et al., 2020, equation 1; Sohn, 2016, Improved Deep Metric Learning with Multi-class
      N-pair Loss Objective.

    >>> alike = jnp.ones((3, 2))  # nothing tells them apart from five others
    >>> jnp.exp(simclr_loss(alike, alike, jnp.ones(3))).round(4).item()
    5.0
    """
    check_shapes("first [n, d], second [n, d] and mask [n]", first, second, mask)
    own = jnp.arange(first.shape[0])
    return supcon_loss(first, second, own, mask, temperature)
