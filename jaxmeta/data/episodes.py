"""Few-shot tasks from examples sorted by class, as pure functions of ``(data, key)``.

A task is made in two steps: :mod:`jaxmeta.data.choices` draws which examples it has without
reading any, and :func:`finish` makes the task from them. :func:`class_source` has all examples on
the device and does both at once; :mod:`jaxmeta.data.streaming` reads them in between.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.checks import check_count
from jaxmeta.data.batches import host_arrays, lengths
from jaxmeta.data.choices import (
    Choice,
    Choose,
    ClassData,
    batch_choices,
    class_data,
    instance_choices,
    whole_choices,
)
from jaxmeta.data.decode import Decode, decode_inputs
from jaxmeta.data.episode_choices import episode_choices
from jaxmeta.types import Array, Batch, Key, PyTree, Sampler, Source


def class_source(
    examples: PyTree,
    counts: Any,
    names: Sequence[str],
    *,
    decode: Decode = decode_inputs,
    variants: int = 1,
) -> Source:
    """A source of N-way K-shot tasks: draw N classes, then K + Q different examples of each.

    Both draws are uniform without replacement.
    ``source.episodes(ways, shots, queries, max_ways, max_shots)`` returns a sampler of episodes
    with support ``[ways * shots, ...]`` and query ``[ways * queries, ...]``, ordered class by
    class: labels int32 in ``[0, ways)`` in the order of drawing, masks float32. It works under
    ``jit`` and ``vmap``.

    With ``max_ways`` or ``max_shots``, the shapes are those of the maxima, and ``ways`` and
    ``shots`` may be traced integers. The places left over are padding: inputs 0, label 0, mask 0.
    The rest is what the unpadded sampler draws with the same key. The query set does not depend on
    ``shots``.

    Tasks can be less uniform, with shapes that stay the same from task to task:

    - ``ways=(2, 10)`` or ``shots=(1, 5)``: each task draws its number, both ends included.
    - ``imbalanced=True``: each class of a task draws its number of shots.
    - ``unlabeled=3``: the support set has three further examples of each class with label -1.
    - ``outside=10``: the query set ends with ten more examples, of classes that are not among the
      ways. Their label is ``ways`` (``max_ways``, if given); see
      :func:`jaxmeta.learners.rejecting`.
    - ``distractors=2``: the support set also has three unlabeled examples of each of two classes
      that are not among the ways; they come before those of the ways.

    ``source.batches(size)`` draws ordinary batches, uniformly over all examples, with labels below
    ``source.classes``. ``source.instances(ways, shots, queries)`` draws episodes in which every
    example is a class of its own: the support and query set of a way are copies of one example, to
    be augmented by :func:`jaxmeta.objectives.augmented`. ``source.whole`` draws all examples.

    Args:
      examples: any pytree of arrays ``[n, ...]``, sorted by class: images, precomputed features,
        or tokens with their masks. They are kept on the device as uint8, int32 or float32.
      counts: integers ``[classes]``, the number of examples of each class; they sum to ``n``.
      names: what each class is called, for error messages.
      decode: ``(example, variant) -> x`` makes the model's input from one example. By default uint8
        becomes float32 in ``[0, 1]``, and everything else is unchanged.
      variants: the number of classes made from each one, such as the quarter turns of
        :func:`~jaxmeta.data.decode_rotated_image`. Variant ``r`` of class ``c`` is class
        ``variants * c + r``.

    Raises:
      ValueError: the arrays do not fit together or, from ``episodes``, ``batches`` and
        ``instances``, the data cannot fill such a task.

    References:
      Hsu, Levine and Finn, 2019, Unsupervised Learning via Meta-Learning; Khodadadeh, Bölöni and
      Shah, 2019, Unsupervised Meta-Learning for Few-Shot Image Classification (instances).

    >>> import jax, numpy as np
    >>> features = np.random.default_rng(0).normal(size=(12, 64))
    >>> source = class_source(features, counts=[4, 4, 4], names=["ant", "bee", "cat"])
    >>> episode = source.episodes(ways=2, shots=1, queries=3)(source.data, jax.random.key(0))
    >>> episode.support.x.shape, episode.query.y
    ((2, 64), Array([0, 0, 0, 1, 1, 1], dtype=int32))
    >>> source.batches(32)(source.data, jax.random.key(0)).x.shape, source.classes
    ((32, 64), 3)
    """
    examples, counts = host_arrays(examples), np.asarray(counts)
    check_classes(counts, names, lengths(examples))
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), examples)
    check_decode(decode, variants, like)

    def sampler(choose: Choose) -> Sampler:
        def sample(data: ClassData, key: Key) -> PyTree:
            choice = choose(data, key)
            # Padding is row -1, for which any example will do: its inputs become 0.
            taken = jax.tree.map(
                lambda leaf: jnp.take(leaf, choice.rows, axis=0, mode="clip"), data.examples
            )
            return finish(taken, choice, decode)

        return sample

    def relabeled(labels: Any) -> Source:
        labels = np.asarray(labels)
        if labels.shape != (counts.sum(),) or labels.dtype.kind != "i":
            raise ValueError(
                f"Labels of type {labels.dtype} and shape {list(labels.shape)} were given for "
                f"{counts.sum()} examples; give one integer for each, -1 to leave it out."
            )
        kept = np.flatnonzero(labels >= 0)
        rows = jax.tree.map(lambda leaf: leaf[kept], examples)
        return array_source(rows, labels[kept], decode=decode, variants=variants)

    data = class_data(jax.tree.map(jnp.asarray, examples), counts)
    source = source_of_choices(data, counts, names, variants, sampler)
    return source._replace(relabeled=relabeled)


def array_source(x: PyTree, y: Any, *, decode: Decode = decode_inputs, variants: int = 1) -> Source:
    """A source of labeled examples in any order.

    Classes are numbered in the order of the sorted labels, and named after them.

    Args:
      x: any pytree of arrays ``[n, ...]``, or a list of n examples.
      y: labels ``[n]``, integers from 0 or strings.
      decode: as in :func:`class_source`.
      variants: as in :func:`class_source`.

    Raises:
      ValueError: as for :func:`class_source`, or ``y`` is not integers from 0 or strings ``[n]``.

    >>> import numpy as np
    >>> tokens, mask = np.array([[5, 2], [7, 0], [3, 3], [9, 0]]), np.array([[1, 1], [1, 0]] * 2)
    >>> source = array_source({"tokens": tokens, "mask": mask}, ["pos", "neg", "pos", "neg"])
    >>> source.classes, source.data.examples["tokens"].tolist()
    (2, [[7, 0], [9, 0], [5, 2], [3, 3]])
    """
    x, y = host_arrays(x), np.asarray(y)
    if y.ndim != 1 or y.dtype.kind not in "iuSU" or set(lengths(x)) != {len(y)}:
        raise ValueError(
            f"array_source got {lengths(x)} examples and labels of type {y.dtype} and shape "
            f"{list(y.shape)}; give each example one integer or string."
        )
    if y.dtype.kind == "i" and y.size and y.min() < 0:
        raise ValueError(f"Label {y.min()} is negative; leave out examples without a label.")
    labels, classes, counts = np.unique(y, return_inverse=True, return_counts=True)
    order = np.argsort(classes, kind="stable")
    examples = jax.tree.map(lambda leaf: leaf[order], x)
    return class_source(
        examples, counts, [str(label) for label in labels], decode=decode, variants=variants
    )


def check_classes(counts: np.ndarray, names: Sequence[str], examples: Sequence[int]) -> None:
    """Checks the classes of a source.

    Args:
      counts: the number of examples of each class.
      names: names of the classes.
      examples: the number of examples in each array.

    Raises:
      ValueError: the counts are not one for each name, or do not sum to the number of examples, or
        there are no examples.
    """
    if counts.ndim != 1 or not np.issubdtype(counts.dtype, np.integer) or (counts < 0).any():
        raise ValueError(
            f"The counts are {counts.tolist()}; give one non-negative integer for each class."
        )
    if len(counts) != len(names) or set(examples) != {counts.sum()}:
        raise ValueError(
            f"The source has {list(examples)} examples, counts that sum to {counts.sum()} over "
            f"{len(counts)} classes, and {len(names)} names; give each class one name, and a count "
            "of its examples."
        )
    if not counts.sum():
        raise ValueError("The source has 0 examples; give at least one.")


def check_decode(decode: Decode, variants: int, like: PyTree) -> None:
    """Traces ``decode`` on one example of these shapes, so that its errors come early.

    Raises:
      ValueError: from ``decode``, or there are several variants and ``decode`` is the default,
        which ignores them.
    """
    check_count("variants", variants, least=1)
    if variants > 1 and decode is decode_inputs:
        raise ValueError(
            f"variants is {variants}, but the default decode makes one of each example; give a "
            "decode that makes the others."
        )
    jax.eval_shape(decode, like, jax.ShapeDtypeStruct((), jnp.int32))


def source_of_choices(
    data: ClassData,
    counts: np.ndarray,
    names: Sequence[str],
    variants: int,
    sampler: Callable[[Choose], Sampler],
) -> Source:
    """A source that chooses its tasks as :mod:`jaxmeta.data.choices` does.

    Args:
      data: what the choices are made from.
      counts: integers ``[classes]``, the number of examples of each class.
      names: what each class is called, for error messages.
      variants: the number of classes made from each one; variant r of class c is class
        ``variants * c + r``.
      sampler: makes a sampler that fetches and decodes what was chosen.
    """
    total = int(counts.sum())
    episodes = episode_choices(counts, names, variants)
    return Source(
        data,
        episodes=lambda *given, **options: sampler(episodes(*given, **options)),
        batches=lambda size: sampler(batch_choices(size, total, variants)),
        instances=lambda ways, shots, queries: sampler(
            instance_choices(ways, shots, queries, total * variants, variants)
        ),
        classes=variants * len(counts),
        whole=sampler(whole_choices(total, variants)),
    )


def finish(examples: PyTree, choice: Choice, decode: Decode) -> PyTree:
    """Makes the task of a choice from its examples: decoded, and 0 where the task is padded.

    Args:
      examples: any pytree of arrays ``[m, ...]``, the example of each row; for padding, it may be
        anything.
      choice: what was drawn.
      decode: makes the model's input from one example.
    """
    if choice.variants is None:
        x = jax.vmap(lambda example: decode(example, jnp.int32(0)))(examples)
    else:
        x = jax.vmap(decode)(examples, choice.variants)
    batches, task = jax.tree.flatten(choice.blank, is_leaf=lambda node: isinstance(node, Batch))
    ends = accumulate(batch.mask.size for batch in batches)

    def fill(batch: Batch, end: int) -> Batch:
        def part(leaf: Array) -> Array:
            leaf = leaf[end - batch.mask.size : end]
            real = jnp.expand_dims(batch.mask > 0, range(1, leaf.ndim))
            return jnp.where(real, leaf, jnp.zeros_like(leaf))

        return batch._replace(x=jax.tree.map(part, x))

    return jax.tree.unflatten(task, map(fill, batches, ends))
