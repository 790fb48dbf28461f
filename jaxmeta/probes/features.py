"""Features of many inputs, and statistics that normalize them."""

import functools

import jax
import jax.numpy as jnp

from jaxmeta.data.batches import lengths
from jaxmeta.data.choices import ClassData
from jaxmeta.data.decode import Decode, decode_inputs
from jaxmeta.data.words import LookedUp, with_rows
from jaxmeta.distributed.microbatches import in_chunks
from jaxmeta.probes.arrays import check_inputs, ones
from jaxmeta.types import Array, Batch, Model, PyTree, Source


def all_examples(source: Source, decode: Decode = decode_inputs) -> Batch:
    """All examples of a source in one batch, class by class.

    Args:
      source: a source that holds its examples in memory, such as those of
        :func:`jaxmeta.data.class_source` and :func:`jaxmeta.data.array_source`.
      decode: what the source was given, if anything; of several variants, the first is used.

    Returns:
      The inputs ``[n, ...]``; the class of each, int32 ``[n]``, in the order of the source's
      classes and not counting variants; a mask of ones.

    Raises:
      ValueError: the source holds no examples.

    >>> from jaxmeta.data import array_source
    >>> source = array_source([[0.5], [1.5], [2.5]], ["cat", "ant", "cat"])
    >>> x, y, mask = all_examples(source)
    >>> x.ravel().tolist(), y.tolist()
    ([1.5, 0.5, 2.5], [0, 1, 1])
    """
    data = source.data
    if isinstance(data, LookedUp):
        batch = all_examples(source._replace(data=data.source), decode)
        return with_rows(batch, data.tables)
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
      state: the statistics used for normalization; see :func:`statistics` for others.
      x: inputs, a pytree of arrays ``[n, ...]``.
      batch: the largest number computed at a time; all batches have one size, and the last is
        padded.
      batch_statistics: normalize each batch by its own statistics. Outputs then depend on how the
        inputs are batched and ordered.

    Returns:
      The outputs ``[n, ...]``.

    Raises:
      ValueError: ``batch`` is not positive, there are no inputs, or their arrays differ in length.

    >>> from jaxmeta.nn import mlp
    >>> model, x = mlp(8), jnp.ones((10, 6))
    >>> features(model, *model.init(jax.random.key(0), x), x, batch=4).shape
    (10, 8)
    """
    check_inputs(x, batch)
    return _outputs(model, params, state, x, batch, batch_statistics)


@functools.partial(jax.jit, static_argnums=(0, 4, 5))
def _outputs(
    model: Model, params: PyTree, state: PyTree, x: PyTree, batch: int, batch_statistics: bool
) -> Array:
    def some(common: PyTree, x: PyTree, mask: Array) -> tuple[PyTree, Array]:
        params, state = common
        outputs, _ = model.apply(params, state, x, mask, batch_statistics=batch_statistics)
        return (), outputs

    return in_chunks(batch)(some)((params, state), x, ones(x))[1]


def statistics(model: Model, params: PyTree, state: PyTree, x: PyTree, batch: int = 256) -> PyTree:
    r"""A model's normalization statistics, estimated anew from inputs in one pass.

    .. math:: s = \sum_b \frac{n_b}{n} s_b

    where :math:`s_b` are the statistics of batch b, of :math:`n_b` inputs, each batch normalized by
    its own. Training averages the statistics of *augmented* images, under parameters that have
    changed since; these are of the inputs as they are.

    Args:
      model: any model.
      params: its parameters.
      state: the model's state, for its structure.
      x: inputs, a pytree of arrays ``[n, ...]``. Each batch is evenly spaced among them, so
        that it mixes classes even if inputs are sorted by class, as :func:`all_examples` gives
        them.
      batch: the largest number computed at a time; padding in the last batch is ignored.

    Returns:
      A state to use in place of ``state``.

    Raises:
      ValueError: ``batch`` is not positive, there are no inputs, or their arrays differ in length.

    References:
      Wu and Johnson, 2021, Rethinking "Batch" in BatchNorm, section 3 (PreciseBN, which takes the
      variance over all batches).

    >>> from jaxmeta.nn import conv4
    >>> model, x = conv4(filters=4), jnp.ones((10, 16, 16, 1))
    >>> params, state = model.init(jax.random.key(0), x)
    >>> z = features(model, params, statistics(model, params, state, x), x)
    """
    check_inputs(x, batch)
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
    return in_chunks(batch)(some)((params, state), x, ones(x))[0]
