"""How much a simple classifier finds in features: nearest neighbors and linear probes.

Labels judge here what was learned without them. :func:`features` makes arrays of a model, and a
probe is fitted to those of one part of the data and judged on those of another. Whatever is chosen,
such as a penalty, is chosen on a third part; see :func:`best_penalty`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve

from jaxmeta.checks import check_count, check_positive
from jaxmeta.data.batches import lengths
from jaxmeta.data.choices import ClassData
from jaxmeta.data.decode import Decode, decode_inputs
from jaxmeta.distributed.microbatches import in_chunks
from jaxmeta.inner import minimize
from jaxmeta.learners.frames.heads import affine
from jaxmeta.learners.frames.support import to_unit_length
from jaxmeta.losses import accuracy, cross_entropy
from jaxmeta.nn.layers import moments
from jaxmeta.types import Array, Batch, Key, Model, PyTree, Source

# Accelerators round products to fewer bits, more than equations that are solved can bear.
_product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def all_examples(source: Source, decode: Decode = decode_inputs) -> Batch:
    """All examples of a source in one batch, class by class.

    Args:
      source: one that holds its examples in memory, as those of :func:`jaxmeta.data.class_source`
        and :func:`jaxmeta.data.array_source` do.
      decode: what the source was given, if anything; of several variants the first is made.

    Returns:
      The inputs ``[n, ...]``; the class of each, int32 ``[n]`` in the order of the source's
      classes, variants not counted; a mask of ones.

    Raises:
      ValueError: the source holds no examples.

    >>> from jaxmeta.data import array_source
    >>> source = array_source([[0.5], [1.5], [2.5]], ["cat", "ant", "cat"])
    >>> x, y, mask = all_examples(source)
    >>> x.ravel().tolist(), y.tolist()
    ([1.5, 0.5, 2.5], [0, 1, 1])
    """
    data = source.data
    if not isinstance(data, ClassData) or not jax.tree.leaves(data.examples):
        raise ValueError(
            f"The data of the source are a {type(data).__name__} without examples: give a source "
            "that holds them in memory, as those of class_source and array_source do."
        )
    total = lengths(data.examples)[0]
    x = jax.vmap(lambda example: decode(example, jnp.int32(0)))(data.examples)
    classes = jnp.arange(data.counts.size, dtype=jnp.int32)
    y = jnp.repeat(classes, data.counts, total_repeat_length=total)
    return Batch(x, y, jnp.ones(total, jnp.float32))


def features(
    model: Model,
    params: PyTree,
    state: PyTree,
    x: PyTree,
    batch: int = 256,
    batch_statistics: bool = False,
) -> Array:
    """A model's outputs for any number of inputs, computed a batch at a time in one program.

    Args:
      model: any model, such as an embedding ``[n, ...]`` to ``[n, d]``.
      params: its parameters.
      state: the statistics that normalize; see :func:`statistics` for others.
      x: inputs, a pytree of arrays ``[n, ...]``.
      batch: how many are computed at a time, at most; the batches are of one size, the last filled
        up with padding.
      batch_statistics: normalize each batch by its own statistics. Outputs then depend on how the
        inputs are batched, and on their order.

    Returns:
      The outputs ``[n, ...]``.

    Raises:
      ValueError: ``batch`` is not positive, there are no inputs, or their arrays differ in length.

    >>> from jaxmeta.nn import mlp
    >>> model, x = mlp(8), jnp.ones((10, 6))
    >>> features(model, *model.init(jax.random.key(0), x), x, batch=4).shape
    (10, 8)
    """
    _check_inputs(x, batch)
    return _outputs(model, params, state, x, batch, batch_statistics)


@functools.partial(jax.jit, static_argnums=(0, 4, 5))
def _outputs(
    model: Model, params: PyTree, state: PyTree, x: PyTree, batch: int, batch_statistics: bool
) -> Array:
    def some(common: PyTree, x: PyTree, mask: Array) -> tuple[PyTree, Array]:
        params, state = common
        outputs, _ = model.apply(params, state, x, mask, batch_statistics=batch_statistics)
        return (), outputs

    return in_chunks(batch)(some)((params, state), x, _ones(x))[1]


def statistics(model: Model, params: PyTree, state: PyTree, x: PyTree, batch: int = 256) -> PyTree:
    r"""A model's statistics for normalization, estimated anew from inputs in one pass.

    .. math:: s = \sum_b \frac{n_b}{n} s_b

    where :math:`s_b` are the statistics of batch b, of :math:`n_b` inputs, each batch normalized by
    its own. Training on changed images averages the statistics of *those*, and of parameters that
    have moved since; these are of the inputs as they are.

    Args:
      model: any model.
      params: its parameters.
      state: of the model, for its structure.
      x: inputs, a pytree of arrays ``[n, ...]``. Each batch is evenly spaced among them, so that
        it mixes the classes of inputs that are sorted by class, as :func:`all_examples` gives them.
      batch: how many are computed at a time, at most; padding in the last batch takes no part.

    Returns:
      A state to put in the place of ``state``.

    Raises:
      ValueError: ``batch`` is not positive, there are no inputs, or their arrays differ in length.

    References:
      Wu and Johnson, 2021, Rethinking "Batch" in BatchNorm, section 3 (PreciseBN, there with the
      variance over all batches).

    >>> from jaxmeta.nn import conv4
    >>> model, x = conv4(filters=4), jnp.ones((10, 16, 16, 1))
    >>> params, state = model.init(jax.random.key(0), x)
    >>> z = features(model, params, statistics(model, params, state, x), x)
    """
    _check_inputs(x, batch)
    return _statistics(model, params, state, x, batch)


@functools.partial(jax.jit, static_argnums=(0, 4))
def _statistics(model: Model, params: PyTree, state: PyTree, x: PyTree, batch: int) -> PyTree:
    def some(common: PyTree, x: PyTree, mask: Array) -> tuple[PyTree, PyTree]:
        params, state = common
        _, used = model.apply(params, state, x, mask)
        share = jnp.sum(mask) / total
        return jax.tree.map(lambda leaf: leaf * share.astype(leaf.dtype), used), ()

    total = lengths(x)[0]
    order = jnp.argsort(jnp.arange(total) % -(-total // batch))
    x = jax.tree.map(lambda leaf: leaf[order], x)
    return in_chunks(batch)(some)((params, state), x, _ones(x))[0]


def nearest_neighbors(
    train_z: Array,
    train_y: Array,
    z: Array,
    classes: int,
    k: int = 20,
    temperature: float = 0.07,
    batch: int = 256,
) -> Array:
    r"""Labels by a vote of the k most similar examples, each weighed by its cosine.

    .. math:: \hat y(z) = \operatorname*{argmax}_c \sum_{i \in N_k(z)} [y_i = c]\,
              \exp(\cos(z, z_i) / T)

    Args:
      train_z: features of the examples that vote, ``[n, d]``.
      train_y: their labels, integers ``[n]`` in ``[0, classes)``.
      z: features of those asked about, ``[m, d]``.
      classes: number of classes.
      k: number of neighbors that vote.
      temperature: T, of the weights.
      batch: how many of z are compared at a time, at most: ``[batch, n]`` cosines are in memory.

    Returns:
      Labels int32 ``[m]``; of classes with equal votes, the first.

    Raises:
      ValueError: features and labels do not fit together, a label is outside of ``[0, classes)``,
        there are fewer than k examples, or the temperature is not positive.

    References:
      Wu et al., 2018, Unsupervised Feature Learning via Non-Parametric Instance Discrimination,
      section 3.4; Caron et al., 2021, Emerging Properties in Self-Supervised Vision Transformers
      (k of 20).

    >>> train_z, train_y = jnp.array([[1.0, 0.0], [1.0, 0.2], [0.0, 1.0]]), jnp.array([0, 0, 1])
    >>> nearest_neighbors(train_z, train_y, jnp.array([[5.0, 0.1], [0.1, 1.0]]), classes=2, k=1)
    Array([0, 1], dtype=int32)
    """
    train_z, train_y = _labeled(train_z, train_y, classes)
    z = jnp.asarray(z)
    _check_inputs(z, batch)
    if z.ndim != 2 or z.shape[1] != train_z.shape[1]:
        raise ValueError(
            f"Features have shapes {train_z.shape} to vote and {z.shape} to be asked about: give "
            "both the same dimensions, as [n, d] and [m, d]."
        )
    check_count("k", k, least=1)
    if k > train_z.shape[0]:
        raise ValueError(f"k is {k} and there are {train_z.shape[0]} examples: give a smaller k.")
    check_positive("temperature", temperature)
    return _voted(train_z, train_y, z.astype(train_z.dtype), temperature, classes, k, batch)


@functools.partial(jax.jit, static_argnums=(4, 5, 6))
def _voted(
    train_z: Array, train_y: Array, z: Array, temperature: Array, classes: int, k: int, batch: int
) -> Array:
    def some(common: PyTree, z: Array, mask: Array) -> tuple[PyTree, Array]:
        voters, labels = common
        similar, rows = jax.lax.top_k(_product(to_unit_length(z), voters.T), k)
        # Only their ratios matter, and exp of a cosine over a small temperature may be infinite.
        weights = jnp.exp((similar - similar[:, :1]) / temperature)
        member = jax.nn.one_hot(labels[rows], classes, dtype=weights.dtype)
        return (), jnp.argmax(jnp.sum(weights[:, :, None] * member, axis=1), axis=1)

    common = to_unit_length(train_z), train_y
    return in_chunks(batch)(some)(common, z, _ones(z))[1].astype(jnp.int32)


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
        return _product(z, self.kernel) + self.bias[None]


def ridge_probe(z: Array, y: Array, classes: int, penalty: float | Array) -> LinearProbe:
    r"""Ridge regression from standardized features to one-hot labels, in closed form.

    .. math:: \min_{W, b}\; \frac{1}{2n} \sum_i \lVert W^\top \tilde z_i + b - e_{y_i} \rVert^2
              + \frac{\lambda}{2} \lVert W \rVert^2

    Each feature is standardized over the n examples, so lambda compares with 1, whatever the scale
    of the features and however many examples there are; one that is constant has no weight. The
    system solved has the size of the smaller of n and d.

    Args:
      z: features ``[n, d]``.
      y: labels, integers ``[n]`` in ``[0, classes)``.
      classes: number of classes.
      penalty: lambda; with 32 bits not far below 1e-5, where the system is solved for rounding
        errors. Chosen on other examples, as by :func:`best_penalty`.

    Returns:
      A :class:`LinearProbe` of features as they are, standardization included; its logits are
      scores, of which the largest decides, and no log-probabilities.

    Raises:
      ValueError: features and labels do not fit together, a label is outside of ``[0, classes)``,
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
        kernel = solved(_product(x.T, x), _product(x.T, targets))
    else:
        kernel = _product(x.T, solved(_product(x, x.T), targets))
    return unfold(kernel, bias)


def logistic_probe(
    z: Array, y: Array, classes: int, penalty: float | Array, steps: int = 100
) -> LinearProbe:
    r"""Multinomial logistic regression on standardized features, by L-BFGS.

    .. math:: \min_{W, b}\; -\frac1n \sum_i \log \mathrm{softmax}(W^\top \tilde z_i + b)_{y_i}
              + \frac{\lambda}{2} \lVert W \rVert^2

    Features are standardized and lambda is in the units of :func:`ridge_probe`; scikit-learn's C is
    :math:`1 / (n \lambda)`.

    Args:
      z: features ``[n, d]``.
      y: labels, integers ``[n]`` in ``[0, classes)``.
      classes: number of classes.
      penalty: lambda. Chosen on other examples, as by :func:`best_penalty`.
      steps: largest number of L-BFGS steps; small penalties need more.

    Returns:
      A :class:`LinearProbe` of features as they are, standardization included.

    Raises:
      ValueError: features and labels do not fit together, a label is outside of ``[0, classes)``,
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
        value = cross_entropy(affine(weights, x), y, _ones(x))
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
      held_out: features ``[m, d]`` and labels ``[m]`` of other examples, which are not those that
        accuracy will be reported on.
      classes: number of classes.
      penalties: to choose from.

    Returns:
      One of the penalties; of those equally accurate, the first.

    Raises:
      ValueError: there are no penalties, or as ``fit``.

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
        return accuracy(logits, held_out[1], _ones(logits)).item()

    return max(penalties, key=score)


def _standardized(z: Array) -> tuple[Array, Callable[[Array, Array], LinearProbe]]:
    """Features of mean 0 and variance 1, and what makes a probe of z of weights of these."""
    mean, variance = moments(z)
    # What varies by no more than its mean rounds is constant.
    varies = variance > 1e-12 * mean**2
    scale = jnp.where(varies, jax.lax.rsqrt(jnp.where(varies, variance, 1)), 0)

    def unfold(kernel: Array, bias: Array) -> LinearProbe:
        kernel = scale[:, None] * kernel
        return LinearProbe(kernel, bias - _product(mean, kernel))

    return (z - mean[None]) * scale[None], unfold


def _probed(z: Array, y: Array, classes: int, penalty: float | Array) -> tuple[Array, Array, Array]:
    """What a linear probe is given, checked."""
    z, y = _labeled(z, y, classes)
    if not isinstance(penalty, jax.core.Tracer):
        check_positive("penalty", float(penalty))
    return z, y, jnp.asarray(penalty, z.dtype)


def _labeled(z: Array, y: Array, classes: int) -> tuple[Array, Array]:
    """Features in 32 bits or more and their labels, checked."""
    check_count("classes", classes, least=1)
    z, y = jnp.asarray(z), jnp.asarray(y)
    if z.ndim != 2 or y.shape != z.shape[:1] or not jnp.issubdtype(y.dtype, jnp.integer):
        raise ValueError(
            f"Features have shape {z.shape}, and labels shape {y.shape} and type {y.dtype}: give "
            "features [n, d] and integer labels [n]."
        )
    if not isinstance(y, jax.core.Tracer):
        labels = np.asarray(y)
        outside = labels[(labels < 0) | (labels >= classes)]
        if outside.size:
            raise ValueError(
                f"Label {outside[0]} is outside of {classes} classes: give labels from 0 to "
                f"{classes - 1}."
            )
    return z.astype(jnp.float32) if jnp.finfo(z.dtype).bits < 32 else z, y


def _check_inputs(x: Any, batch: int) -> None:
    check_count("batch", batch, least=1)
    if len(set(lengths(x))) != 1 or not lengths(x)[0]:
        raise ValueError(
            f"The inputs are {lengths(x)} in number: give arrays of one length [n, ...], with one "
            "example or more."
        )


def _ones(x: PyTree) -> Array:
    """A mask that lets every example count."""
    return jnp.ones(lengths(x)[0], jnp.float32)
