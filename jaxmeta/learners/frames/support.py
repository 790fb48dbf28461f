"""What learners share: class means, distances, absent classes, checks of a support set."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.checks import check_count
from jaxmeta.types import UNLABELED, Array, Batch, Key, Loss

MASK_VALUE = -1e9
"""In place of minus infinity, whose derivative would be NaN."""


def check_ways(ways: int | None) -> None:
    """Raises ``ValueError`` if ``ways`` is given, as for classes, but not a positive integer."""
    if ways is not None:
        check_count("ways", ways, least=1)


def present_classes(support: Batch, ways: int) -> Array:
    """Which classes are present in the support set, boolean ``[ways]``."""
    return jnp.any(membership(support, ways) > 0, axis=0)


def membership(support: Batch, ways: int) -> Array:
    """``[n, ways]``, 1 where an example is labeled with the class, else 0, as for padding."""
    member = (support.y[:, None] == jnp.arange(ways)[None]) & (support.mask[:, None] > 0)
    return member.astype(support.mask.dtype)


def labeled(support: Batch) -> Array:
    """The mask ``[n]`` of the examples that have a label or a target."""
    if support.y.ndim > 1:
        return support.mask
    return support.mask * (support.y != UNLABELED).astype(support.mask.dtype)


def draw_minibatch(support: Batch, size: int, key: Key) -> Batch:
    """Draws ``size`` different labeled examples; all of them and padding if there are fewer."""
    known = labeled(support)
    scores = jax.random.uniform(key, known.shape, jnp.float32)
    _, rows = jax.lax.top_k(jnp.where(known > 0, scores, -1), min(size, known.size))
    drawn: Batch = jax.tree.map(lambda leaf: leaf[rows], support._replace(mask=known))
    return drawn


def class_means(embedded: Array, member: Array) -> Array:
    """The mean of each class's examples: ``[n, ...]`` and ``[n, ways]`` to ``[ways, ...]``."""
    share = member / jnp.maximum(jnp.sum(member, axis=0, keepdims=True), 1)
    return jnp.tensordot(share.astype(embedded.dtype), embedded, axes=(0, 0))


def squared_distances(one: Array, other: Array) -> Array:
    """From each row of ``[m, d]`` to each row of ``[k, d]``: ``[m, k]``."""
    return jnp.sum((one[:, None] - other[None]) ** 2, axis=-1)


def best_of_class(pairs: Array, member: Array) -> Array:
    """The largest of ``[m, n]`` over each class of ``[n, ways]``: ``[m, ways]``, finite."""
    of_class = jnp.where(member[None] > 0, pairs[:, :, None], MASK_VALUE)
    # By index: the derivative of a maximum compares values that a compiler may round differently.
    best = jax.lax.stop_gradient(jnp.argmax(of_class, axis=1, keepdims=True))
    return jnp.take_along_axis(of_class, best, axis=1)[:, 0]


def to_unit_length(rows: Array) -> Array:
    """Rows ``[n, d]`` divided by their length; a row of zeros stays zero."""
    # The constant is inside the root, as the derivative at a length of zero would be NaN.
    return rows * jax.lax.rsqrt(jnp.sum(rows**2, axis=-1, keepdims=True) + 1e-12)


def cosine_similarities(one: Array, other: Array) -> Array:
    """Of each row of ``[m, d]`` and each row of ``[k, d]``: ``[m, k]``."""
    return to_unit_length(one) @ to_unit_length(other).T


def mask_absent_classes(logits: Array, present: Array | None) -> Array:
    """Logits ``[n, ways]``, minus infinity where a class is not ``present`` ``[ways]``.

    ``None`` stands for regression, where there are no classes.
    """
    return logits if present is None else jnp.where(present[None], logits, -jnp.inf)


def support_loss(loss: Loss, outputs: Array, support: Batch, present: Array | None) -> Array:
    """The loss over the labeled examples and, for classes, over those classes ``present``.

    Raises:
      ValueError: the model does not have one output per way.
    """
    check_outputs(outputs, present)
    return loss(mask_absent_classes(outputs, present), support.y, labeled(support))


def check_outputs(outputs: Array, present: Array | None) -> None:
    """Raises ``ValueError`` if there are classes but not exactly one output for each."""
    if present is not None and outputs.shape[-1] != present.shape[0]:
        raise ValueError(
            f"The model has {outputs.shape[-1]} outputs but the learner is to tell "
            f"{present.shape[0]} ways apart: give both the same number, that of the training."
        )


def check_support(support: Batch, ways: int | None) -> None:
    """Checks shapes always, and labels when they are known (outside ``jit``).

    Raises:
      ValueError: lengths differ, there are no examples, or a label lies outside ``[0, ways)``.
    """
    lengths = {leaf.shape[0] for leaf in jax.tree.leaves(support)}
    if lengths == {0}:
        raise ValueError(
            "The support set is empty, so there is nothing to learn from: give shots of 1 or more, "
            "or a fixed_classifier."
        )
    if len(lengths) > 1:
        raise ValueError(
            f"The support set's x, y and mask have different lengths {sorted(lengths)}: give one "
            "label and one mask value for each example."
        )
    if ways is None:
        return
    if not jnp.issubdtype(support.y.dtype, jnp.integer):
        raise ValueError(
            f"Labels are of type {support.y.dtype}: give integers from 0 to {ways - 1}."
        )
    if not isinstance(support.y, jax.core.Tracer):
        check_labels(np.asarray(support.y), ways, least=UNLABELED)


def check_labels(labels: np.ndarray, ways: int, least: int = 0) -> None:
    """Raises ``ValueError`` naming the first label outside ``[least, ways)``."""
    outside = labels[(labels < least) | (labels >= ways)]
    if outside.size:
        raise ValueError(
            f"Label {outside[0]} is outside the {ways} ways: labels go from 0 to {ways - 1}, "
            f"and {UNLABELED} is none in a support set."
        )
