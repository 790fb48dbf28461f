"""Distribution calibration: classes seen before say how the examples of a new one vary."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.checks import check_count
from jaxmeta.learners.frames.enlarged import check_features, enlarge
from jaxmeta.learners.frames.support import squared_distances
from jaxmeta.types import Array, Batch, Episode, Key, Learner, Metrics, PyTree


class ClassStatistics(NamedTuple):
    """Means and spreads of the features of base classes.

    Attributes:
      means: ``[classes, d]``.
      factors: ``[classes, d, d]``, matrices F with the covariance :math:`F F^T`.
    """

    means: Array
    factors: Array


def class_statistics(x: Any, y: Any) -> ClassStatistics:
    """The mean and covariance of the features of each class.

    Args:
      x: features ``[n, d]``.
      y: their classes ``[n]``, integers.

    Returns:
      The statistics, in the order of the sorted classes.

    Raises:
      ValueError: the features are not ``[n, d]`` with n labels, or a class has fewer than two.

    >>> statistics = class_statistics([[0.0], [2.0], [5.0], [7.0]], [0, 0, 1, 1])
    >>> statistics.means.ravel().tolist(), round(statistics.factors[0].item(), 3)
    ([1.0, 6.0], 1.414)
    """
    x, y = np.asarray(x, np.float64), np.asarray(y)
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise ValueError(
            f"The features have shape {x.shape} and the labels {y.shape}: give [n, d] and [n]."
        )
    means, factors = [], []
    for each in np.unique(y):
        own = x[y == each]
        if len(own) < 2:
            raise ValueError(f"Class {each} has one example: give two or more, which vary.")
        values, vectors = np.linalg.eigh(np.cov(own, rowvar=False).reshape(x.shape[1], -1))
        means.append(own.mean(axis=0))
        factors.append(vectors * np.sqrt(np.maximum(values, 0)))
    return ClassStatistics(
        jnp.asarray(np.stack(means), jnp.float32), jnp.asarray(np.stack(factors), jnp.float32)
    )


def calibrated(
    learner: Learner,
    base: ClassStatistics,
    extra: int,
    *,
    neighbors: int = 2,
    spread: float = 0.21,
) -> Learner:
    r"""Adds to a support set of features samples from what the nearest base classes look like.

    .. math:: \mu' = \frac{x + \sum_{c \in N(x)} \mu_c}{k + 1}, \qquad
              \Sigma' = \frac1k \sum_{c \in N(x)} \Sigma_c + \alpha \mathbf{1} \mathbf{1}^\top

    where N(x) are the k base classes whose means are nearest to the example x. As in the authors'
    code, :math:`\alpha` is added to every entry, not only to the diagonal. Unlike theirs, all
    examples share the noise, so that their order does not matter. Nothing is trained. The
    authors take square roots of features that are not negative, of those of the base classes too:
    put :func:`jaxmeta.nn.power` in front by :func:`embedded`.

    Args:
      learner: a learner of features ``[n, d]``, such as ``logistic_regression(identity(), ways)``.
      base: statistics of the base classes; see :func:`class_statistics`.
      extra: samples for each example of the support set, the authors' 750 / shots.
      neighbors: k.
      spread: :math:`\alpha`.

    Returns:
      A learner with the parameters of ``learner`` and a state ``{"learner", "base"}``.

    Raises:
      ValueError: a count is not valid, there are fewer base classes than neighbors, ``spread`` is
        negative, or the inputs are not such features.

    References:
      Yang, Liu and Xu, 2021, Free Lunch for Few-shot Learning: Distribution Calibration, section 3.

    >>> from jaxmeta.learners import logistic_regression
    >>> from jaxmeta.nn import identity
    >>> base = class_statistics(np.random.default_rng(0).normal(size=(30, 4)), [0, 1, 2] * 10)
    >>> learner = calibrated(logistic_regression(identity(), ways=5), base, extra=100)
    """
    check_count("extra", extra, least=1)
    check_count("neighbors", neighbors, least=1)
    classes, size = base.means.shape
    if neighbors > classes:
        raise ValueError(f"neighbors is {neighbors}, but there are {classes} base classes.")
    if spread < 0:
        raise ValueError(f"spread is {spread}: give a number of 0 or more.")

    def init(key: Key, episode: Episode) -> tuple[PyTree, PyTree]:
        check(episode.support)
        params, state = learner.init(key, episode)
        return params, {"learner": state, "base": base}

    def check(support: Batch) -> None:
        check_features(support.x, "calibrated")
        if support.x.shape[1] != size:
            raise ValueError(
                f"The features have size {support.x.shape[1]} and those of the base classes "
                f"{size}: give statistics of the same features."
            )

    def imagine(base: ClassStatistics, x: Array, key: Key) -> Array:
        """``[extra, n, d]``."""
        _, near = jax.lax.top_k(-squared_distances(x, base.means), neighbors)
        mean = (x + jnp.sum(base.means[near], axis=1)) / (neighbors + 1)
        own_key, shared_key = jax.random.split(key)
        z = jax.random.normal(own_key, (extra, neighbors, size), x.dtype)
        shift = jax.random.normal(shared_key, (extra,), x.dtype) * np.float32(spread**0.5)
        # A sum of independent samples, so that no covariance has to be factorized in a task.
        apart = jnp.einsum("nkde,jke->jnd", base.factors[near], z) / np.float32(neighbors**0.5)
        return mean[None] + apart + shift[:, None, None]

    def enlarged(state: PyTree, support: Batch, key: Key) -> tuple[Batch, Key]:
        check(support)
        imagine_key, key = jax.random.split(key)
        return enlarge(support, imagine(state["base"], support.x, imagine_key)), key

    def adapt(params: PyTree, state: PyTree, support: Batch, key: Key) -> tuple[PyTree, Metrics]:
        return learner.adapt(params, state["learner"], *enlarged(state, support, key))

    def predict(
        params: PyTree,
        state: PyTree,
        adapted: PyTree,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
    ) -> tuple[Array, PyTree]:
        outputs, own = learner.predict(params, state["learner"], adapted, x, mask, key)
        return outputs, {**state, "learner": own}

    return Learner(init, adapt, predict)
