"""How much the features of two domains differ: pure losses of features, without a critic."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxmeta.domains.frame import Domain, aligned, check_domains
from jaxmeta.nn.layers import widened
from jaxmeta.types import Array, Key, Metrics, Model, Objective, PyTree

SCALES = (0.125, 0.25, 0.5, 1.0, 2.0)


def mmd(
    model: Model,
    head: Model | None = None,
    *,
    weight: float = 1.0,
    scales: Sequence[float] = SCALES,
    statistics: str = "together",
    decay: float = 0.9,
) -> Objective:
    r"""A classifier of the source whose features have a small :func:`mmd_loss` to the target's.

    Args:
      model: the encoder.
      head: the classifier on its features; ``None`` as in :func:`jaxmeta.domains.aligned`.
      weight: weight of the discrepancy.
      scales: as in :func:`mmd_loss`.
      statistics: as in :func:`jaxmeta.domains.aligned`.
      decay: as in :func:`jaxmeta.domains.aligned`.

    Returns:
      An objective over ``{"source", "target"}``; see :func:`jaxmeta.domains.aligned`.

    Raises:
      ValueError: as for :func:`jaxmeta.domains.aligned`.

    References:
      Long, Cao, Wang and Jordan, 2015, Learning Transferable Features with Deep Adaptation
      Networks.

    >>> from jaxmeta.nn import mlp
    >>> objective = mmd(mlp(8), mlp(3, hidden=()))
    """

    def penalty(
        params: PyTree, source: Domain, target: Domain, progress: Array, key: Key
    ) -> tuple[Array, Metrics]:
        features = source.features, target.features, source.mask, target.mask
        return mmd_loss(*features, scales=scales), {}

    return aligned(model, head, penalty, weight=weight, statistics=statistics, decay=decay)


def coral(
    model: Model,
    head: Model | None = None,
    *,
    weight: float = 1.0,
    statistics: str = "together",
    decay: float = 0.9,
) -> Objective:
    r"""A classifier of the source whose features have a small :func:`coral_loss` to the target's.

    Args:
      model: the encoder.
      head: the classifier on its features; ``None`` as in :func:`jaxmeta.domains.aligned`.
      weight: weight of the discrepancy.
      statistics: as in :func:`jaxmeta.domains.aligned`.
      decay: as in :func:`jaxmeta.domains.aligned`.

    Returns:
      An objective over ``{"source", "target"}``; see :func:`jaxmeta.domains.aligned`.

    Raises:
      ValueError: as for :func:`jaxmeta.domains.aligned`.

    References:
      Sun and Saenko, 2016, Deep CORAL: Correlation Alignment for Deep Domain Adaptation.

    >>> from jaxmeta.nn import mlp
    >>> objective = coral(mlp(8), mlp(3, hidden=()))
    """

    def penalty(
        params: PyTree, source: Domain, target: Domain, progress: Array, key: Key
    ) -> tuple[Array, Metrics]:
        return coral_loss(source.features, target.features, source.mask, target.mask), {}

    return aligned(model, head, penalty, weight=weight, statistics=statistics, decay=decay)


def mmd_loss(
    source: Array,
    target: Array,
    source_mask: Array,
    target_mask: Array,
    scales: Sequence[float] = SCALES,
    width: float | None = None,
) -> Array:
    r"""The squared maximum mean discrepancy between two sets of features, estimated without bias.

    .. math:: \operatorname*{mean}_{i \neq j} k(s_i, s_j) + \operatorname*{mean}_{i \neq j}
              k(t_i, t_j) - 2 \operatorname*{mean}_{i, j} k(s_i, t_j), \qquad
              k(a, b) = \sum_\alpha \exp\Big(-\frac{\lVert a - b \rVert^2}{2 \alpha q}\Big)

    Its mean is 0 when both domains have one distribution, so it can be negative. (A common
    implementation adds :math:`2 / (n - 1)` for each kernel, to keep it positive.)

    Args:
      source: features ``[n, d]``.
      target: features ``[m, d]``.
      source_mask: ``[n]``; at least two examples of each domain must count.
      target_mask: ``[m]``.
      scales: the multiples :math:`\alpha` of the width; the kernels are added.
      width: q, a squared distance; ``None`` for the mean over all pairs of features of both
        domains, which is not differentiated.

    Raises:
      ValueError: the shapes differ from these.

    References:
      Gretton et al., 2012, A Kernel Two-Sample Test, equation 3; Long et al., 2015, section 3.

    >>> far = mmd_loss(jnp.zeros((4, 2)), 9 * jnp.ones((4, 2)), jnp.ones(4), jnp.ones(4), (1e-4,))
    >>> far.item()  # features within each domain are alike, and between the domains are not
    2.0
    """
    check_domains(source, target, source_mask, target_mask)
    both = widened(jnp.concatenate([source, target]))
    here = jnp.concatenate([source_mask, jnp.zeros_like(target_mask)]).astype(both.dtype)
    there = jnp.concatenate([jnp.zeros_like(source_mask), target_mask]).astype(both.dtype)
    # The difference is taken first: expanding the square would lose small distances.
    distances = jnp.sum((both[:, None] - both[None]) ** 2, axis=2)
    others = 1 - jnp.eye(len(both), dtype=both.dtype)
    pairs = {
        "source": here[:, None] * here[None] * others,
        "target": there[:, None] * there[None] * others,
        "between": here[:, None] * there[None],
    }

    def mean(values: Array, weights: Array) -> Array:
        return jnp.sum(values * weights) / jnp.maximum(jnp.sum(weights), 1)

    real = here + there
    own = mean(jax.lax.stop_gradient(distances), real[:, None] * real[None] * others)
    # Where all features are alike, every kernel is 1.
    scaled = distances / jnp.maximum(own if width is None else width, jnp.finfo(own.dtype).tiny)
    kernel = sum((jnp.exp(-scaled / (2 * scale)) for scale in scales), jnp.zeros_like(scaled))
    within = mean(kernel, pairs["source"]) + mean(kernel, pairs["target"])
    return within - 2 * mean(kernel, pairs["between"])


def coral_loss(source: Array, target: Array, source_mask: Array, target_mask: Array) -> Array:
    r"""The distance between the covariances of two sets of features.

    .. math:: \frac{1}{4 d^2} \lVert C_S - C_T \rVert_F^2

    Args:
      source: features ``[n, d]``.
      target: features ``[m, d]``.
      source_mask: ``[n]``.
      target_mask: ``[m]``.

    Raises:
      ValueError: the shapes differ from these.

    References:
      Sun and Saenko, 2016, equation 1.

    >>> one, other = jnp.array([[0.0], [2.0]]), jnp.array([[0.0], [0.0]])  # variances of 2 and 0
    >>> coral_loss(one, other, jnp.ones(2), jnp.ones(2)).item()
    1.0
    """
    check_domains(source, target, source_mask, target_mask)

    def covariance(z: Array, mask: Array) -> Array:
        z, mask = widened(z), mask[:, None].astype(widened(z).dtype)
        count = jnp.sum(mask)
        mean = jnp.sum(z * mask, axis=0) / jnp.maximum(count, 1)
        centered = (z - mean[None]) * mask
        return centered.T @ centered / jnp.maximum(count - 1, 1)

    apart = covariance(source, source_mask) - covariance(target, target_mask)
    return jnp.sum(apart**2) / (4 * source.shape[1] ** 2)
