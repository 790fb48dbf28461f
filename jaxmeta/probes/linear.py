"""Linear probes: ridge regression and logistic regression."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve

from jaxmeta.checks import check_count, check_positive
from jaxmeta.inner import minimize
from jaxmeta.learners.frames.heads import affine
from jaxmeta.losses import accuracy, cross_entropy
from jaxmeta.nn.layers import moments
from jaxmeta.probes.arrays import exact_product, labeled, ones
from jaxmeta.types import Array, Key, PyTree


class LinearProbe(NamedTuple):
    """A linear classifier of features, a function ``(z [m, d]) -> logits [m, classes]``.

    Attributes:
      kernel: ``[d, classes]``.
      bias: ``[classes]``.
    """

    kernel: Array
    bias: Array

    def __call__(self, z: Array) -> Array:
        """The logits ``[m, classes]`` of features ``[m, d]``."""
        return exact_product(z, self.kernel) + self.bias[None]


def ridge_probe(z: Array, y: Array, classes: int, penalty: float | Array) -> LinearProbe:
    r"""Ridge regression from standardized features to one-hot labels, in closed form.

    .. math:: \min_{W, b}\; \frac{1}{2n} \sum_i \lVert W^\top \tilde z_i + b - e_{y_i} \rVert^2
              + \frac{\lambda}{2} \lVert W \rVert^2

    Each feature is standardized over the n examples, so lambda is relative to 1 whatever the scale
    of the features and the number of examples; a constant feature has no weight. The linear system
    has the size of the smaller of n and d.

    Args:
      z: features ``[n, d]``.
      y: labels, integers ``[n]`` in ``[0, classes)``.
      classes: number of classes.
      penalty: lambda; in 32 bits not far below 1e-5, where rounding errors dominate the solution.
        Choose it on other examples, as :func:`best_penalty` does.

    Returns:
      A :class:`LinearProbe` of features as they are, standardization included; its logits are
      scores, of which the largest decides, not log-probabilities.

    Raises:
      ValueError: features and labels do not fit together, a label is outside ``[0, classes)``,
        or the penalty is not positive.

    References:
      Hoerl and Kennard, 1970, Ridge Regression: Biased Estimation for Nonorthogonal Problems.

    >>> z, y = jnp.array([[1.0, 5.0], [2.0, 5.0], [7.0, 5.0], [8.0, 5.0]]), jnp.array([0, 0, 1, 1])
    >>> probe = ridge_probe(z, y, classes=2, penalty=0.1)
    >>> accuracy(probe(z), y, jnp.ones(4)).item()
    1.0
    """
    return _ridge(*_probed(z, y, classes, penalty), classes)


@functools.partial(jax.jit, static_argnums=3)
def _ridge(z: Array, y: Array, penalty: Array, classes: int) -> LinearProbe:
    x, unfold = _standardized(z)
    n, d = x.shape
    targets = jax.nn.one_hot(y, classes, dtype=x.dtype)
    bias = jnp.mean(targets, axis=0)
    targets = (targets - bias[None]) / n

    def solved(gram: Array, right: Array) -> Array:
        return solve(gram / n + penalty * jnp.eye(min(n, d), dtype=x.dtype), right, assume_a="pos")

    if d <= n:
        kernel = solved(exact_product(x.T, x), exact_product(x.T, targets))
    else:
        kernel = exact_product(x.T, solved(exact_product(x, x.T), targets))
    return unfold(kernel, bias)


def logistic_probe(
    z: Array, y: Array, classes: int, penalty: float | Array, steps: int = 100
) -> LinearProbe:
    r"""Multinomial logistic regression on standardized features, by L-BFGS.

    .. math:: \min_{W, b}\; -\frac1n \sum_i \log \mathrm{softmax}(W^\top \tilde z_i + b)_{y_i}
              + \frac{\lambda}{2} \lVert W \rVert^2

    Features are standardized and lambda has the units of :func:`ridge_probe`; scikit-learn's C is
    :math:`1 / (n \lambda)`.

    Args:
      z: features ``[n, d]``.
      y: labels, integers ``[n]`` in ``[0, classes)``.
      classes: number of classes.
      penalty: lambda. Choose it on other examples, as :func:`best_penalty` does.
      steps: maximum number of L-BFGS steps; small penalties need more.

    Returns:
      A :class:`LinearProbe` of features as they are, standardization included.

    Raises:
      ValueError: features and labels do not fit together, a label is outside ``[0, classes)``,
        the penalty is not positive, or ``steps`` is negative.

    References:
      Chen et al., 2020, A Simple Framework for Contrastive Learning of Visual Representations,
      appendix B.8 (linear evaluation by L-BFGS, the penalty chosen on validation data).

    >>> z, y = jnp.array([[1.0, 5.0], [2.0, 5.0], [7.0, 5.0], [8.0, 5.0]]), jnp.array([0, 0, 1, 1])
    >>> probe = logistic_probe(z, y, classes=2, penalty=0.01)
    >>> jax.nn.softmax(probe(z))[:, 0].round(2).tolist()
    [0.9..., 0.9..., 0.0..., 0.0...]
    """
    check_count("steps", steps)
    return _logistic(*_probed(z, y, classes, penalty), classes, steps)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _logistic(z: Array, y: Array, penalty: Array, classes: int, steps: int) -> LinearProbe:
    x, unfold = _standardized(z)

    def loss(weights: PyTree, key: Key) -> Array:
        value = cross_entropy(affine(weights, x), y, ones(x))
        return value + penalty * jnp.sum(weights["kernel"] ** 2) / 2

    start = {
        "kernel": jnp.zeros((x.shape[1], classes), x.dtype),
        "bias": jnp.zeros(classes, x.dtype),
    }
    weights, _ = minimize(steps).run(loss, start, (), jax.random.key(0))  # nothing is random
    return unfold(weights["kernel"], weights["bias"])


def best_penalty(
    fit: Callable[[Array, Array, int, float], LinearProbe],
    train: tuple[Array, Array],
    held_out: tuple[Array, Array],
    classes: int,
    penalties: Sequence[float],
) -> float:
    """The penalty whose probe, fitted to ``train``, is most accurate on ``held_out``.

    Args:
      fit: :func:`ridge_probe` or :func:`logistic_probe`.
      train: features ``[n, d]`` and labels ``[n]``.
      held_out: features ``[m, d]`` and labels ``[m]`` of other examples, but not of those that
        accuracy will be reported on.
      classes: number of classes.
      penalties: the candidates.

    Returns:
      The best of the penalties; in a tie, the first.

    Raises:
      ValueError: there are no penalties, or as for ``fit``.

    >>> z = jax.random.normal(jax.random.key(0), (60, 5))
    >>> y = (z[:, 0] > 0).astype(jnp.int32)
    >>> train, held_out, test = [(z[i : i + 20], y[i : i + 20]) for i in (0, 20, 40)]
    >>> penalty = best_penalty(ridge_probe, train, held_out, 2, [1e-3, 1e-2, 1e-1, 1.0])
    >>> probe = ridge_probe(*train, classes=2, penalty=penalty)
    >>> right = accuracy(probe(test[0]), test[1], jnp.ones(20))
    """
    if not len(penalties):
        raise ValueError("There are 0 penalties: give at least one.")

    def score(penalty: float) -> float:
        logits = fit(*train, classes, penalty)(held_out[0])
        return accuracy(logits, held_out[1], ones(logits)).item()

    return max(penalties, key=score)


def _standardized(z: Array) -> tuple[Array, Callable[[Array, Array], LinearProbe]]:
    """Features of mean 0 and variance 1, and a function from their weights to a probe of z."""
    mean, variance = moments(z)
    # A feature that varies no more than rounding of its mean is constant.
    varies = variance > 1e-12 * mean**2
    scale = jnp.where(varies, jax.lax.rsqrt(jnp.where(varies, variance, 1)), 0)

    def unfold(kernel: Array, bias: Array) -> LinearProbe:
        kernel = scale[:, None] * kernel
        return LinearProbe(kernel, bias - exact_product(mean, kernel))

    return (z - mean[None]) * scale[None], unfold


def _probed(z: Array, y: Array, classes: int, penalty: float | Array) -> tuple[Array, Array, Array]:
    """The checked inputs of a linear probe."""
    z, y = labeled(z, y, classes)
    if not isinstance(penalty, jax.core.Tracer):
        check_positive("penalty", float(penalty))
    return z, y, jnp.asarray(penalty, z.dtype)
