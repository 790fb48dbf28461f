"""Losses and metrics of one task: mask-aware, and without an axis of tasks.

Each is ``(outputs [n, ...], y [n, ...], mask [n]) -> scalar``, the mean (unless it says otherwise)
over the examples whose mask is 1, and 0 when there are none.
"""

import jax
import jax.numpy as jnp

from jaxmeta.types import Array


def masked_mean(values: Array, mask: Array) -> Array:
    """Mean of ``values`` ``[n]`` where ``mask`` ``[n]`` is 1; 0 if it is 1 nowhere.

    >>> masked_mean(jnp.array([1.0, 2.0, 9.0]), jnp.array([1.0, 1.0, 0.0])).item()
    1.5
    """
    mask = mask.astype(values.dtype)
    return jnp.sum(values * mask) / jnp.maximum(jnp.sum(mask), 1)


def check_labeled(outputs: Array, y: Array) -> None:
    """Raises ``ValueError`` unless there is one label ``[n]`` for each row of ``[n, ways]``."""
    if outputs.ndim != 2 or y.shape != outputs.shape[:1]:
        raise ValueError(
            f"Logits have shape {outputs.shape} and labels {y.shape}: give logits [n, ways] and "
            "labels [n]."
        )


def cross_entropy(outputs: Array, y: Array, mask: Array) -> Array:
    r"""Cross-entropy :math:`-\frac1n\sum_i \log\mathrm{softmax}(z_i)_{y_i}`, in nats.

    Args:
      outputs: logits ``[n, ways]``.
      y: integer labels ``[n]`` in ``[0, ways)``.
      mask: ``[n]``.

    Raises:
      ValueError: the shapes differ from these.

    >>> two_bits = cross_entropy(jnp.zeros((1, 4)), jnp.array([0]), jnp.ones(1)) / jnp.log(2)
    >>> two_bits.item()
    2.0
    """
    check_labeled(outputs, y)
    log_probabilities = jax.nn.log_softmax(outputs)
    chosen = jnp.take_along_axis(log_probabilities, y[:, None], axis=-1)[:, 0]
    # A padded example may carry the label of an absent class, whose log-probability is -inf.
    return -masked_mean(jnp.where(mask > 0, chosen, 0), mask)


def squared_error(outputs: Array, y: Array, mask: Array) -> Array:
    r"""Mean squared error :math:`\frac1{nd}\sum_{ij} (z_{ij} - y_{ij})^2` of ``[n, d]`` values.

    Raises:
      ValueError: outputs and targets differ in shape, so they would be broadcast together.

    >>> squared_error(jnp.array([[1.0], [5.0]]), jnp.zeros((2, 1)), jnp.array([1.0, 0.0])).item()
    1.0
    """
    if outputs.shape != y.shape or outputs.ndim != 2:
        raise ValueError(
            f"Outputs have shape {outputs.shape} and targets {y.shape}: give both as [n, d]."
        )
    return masked_mean(jnp.mean((outputs - y) ** 2, axis=-1), mask)


def sum_of_squares(outputs: Array, y: Array, mask: Array) -> Array:
    r"""The sum of squared errors, :math:`\sum_{ij} (z_{ij} - y_{ij})^2`; not a mean.

    Raises:
      ValueError: outputs and targets are not both ``[n, d]``.

    >>> sum_of_squares(jnp.array([[1.0], [5.0]]), jnp.zeros((2, 1)), jnp.ones(2)).item()
    26.0
    """
    count = jnp.sum(mask).astype(outputs.dtype) * outputs.shape[-1]
    return squared_error(outputs, y, mask) * count


def pair_verification(outputs: Array, y: Array, mask: Array) -> Array:
    r"""Binary cross-entropy of "is this query of class k?", in nats, for Siamese networks.

    .. math:: -\frac12 \operatorname*{mean}_{i} \log\sigma(z_{i y_i})
              -\frac12 \operatorname*{mean}_{i,\, k \neq y_i} \log(1 - \sigma(z_{ik}))

    so that pairs from one class weigh as much as pairs from two, which are more numerous.

    Args:
      outputs: logits ``[n, ways]``, minus infinity for classes that are absent.
      y: integer labels ``[n]`` in ``[0, ways)``.
      mask: ``[n]``.

    Raises:
      ValueError: the shapes differ from these.

    References:
      Koch, Zemel and Salakhutdinov, 2015, section 3.2.

    >>> sure = jnp.array([[50.0, -50.0, -jnp.inf]])  # the third class is absent
    >>> pair_verification(sure, jnp.array([0]), jnp.ones(1)).round(6).item()
    0.0
    """
    check_labeled(outputs, y)
    same = jax.nn.one_hot(y, outputs.shape[1], dtype=outputs.dtype)
    known = jnp.isfinite(outputs).astype(outputs.dtype) * mask[:, None].astype(outputs.dtype)
    finite = jnp.where(jnp.isfinite(outputs), outputs, 0)
    together = masked_mean(jax.nn.softplus(-finite).ravel(), (same * known).ravel())
    apart = masked_mean(jax.nn.softplus(finite).ravel(), ((1 - same) * known).ravel())
    return (together + apart) / 2


def relation_error(outputs: Array, y: Array, mask: Array) -> Array:
    r"""Squared error :math:`\frac1n \sum_{ik} (\sigma(z_{ik}) - [y_i = k])^2` of relation scores.

    Args:
      outputs: scores before the sigmoid ``[n, ways]``, minus infinity for classes that are absent.
      y: integer labels ``[n]`` in ``[0, ways)``.
      mask: ``[n]``.

    Raises:
      ValueError: the shapes differ from these.

    References:
      Sung et al., 2018, equation 2.

    >>> relation_error(jnp.zeros((1, 2)), jnp.array([0]), jnp.ones(1)).item()  # two scores of 1/2
    0.5
    """
    check_labeled(outputs, y)
    same = jax.nn.one_hot(y, outputs.shape[1], dtype=outputs.dtype)
    known = jnp.isfinite(outputs)
    scores = jax.nn.sigmoid(jnp.where(known, outputs, 0))
    return masked_mean(jnp.sum(jnp.where(known, (scores - same) ** 2, 0), axis=1), mask)


def balanced_accuracy(outputs: Array, y: Array, mask: Array) -> Array:
    r"""The mean over classes of the fraction of their examples that are recognized.

    .. math:: \frac{1}{|C|} \sum_{c \in C} \operatorname*{mean}_{i:\, y_i = c}
              [\operatorname{argmax} z_i = c]

    over the classes C that have examples, so a frequent class counts no more than a rare one.

    Args:
      outputs: logits ``[n, ways]``.
      y: integer labels ``[n]`` in ``[0, ways)``.
      mask: ``[n]``.

    Raises:
      ValueError: the shapes differ from these.

    >>> logits = jnp.eye(2)[jnp.array([0, 0, 0, 0])]  # always the first class
    >>> balanced_accuracy(logits, jnp.array([0, 0, 0, 1]), jnp.ones(4)).item()
    0.5
    """
    check_labeled(outputs, y)
    right = (jnp.argmax(outputs, axis=-1) == y).astype(outputs.dtype)
    members = jax.nn.one_hot(y, outputs.shape[1], dtype=outputs.dtype) * mask[:, None]
    counts = jnp.sum(members, axis=0)
    recalls = jnp.sum(members * right[:, None], axis=0) / jnp.maximum(counts, 1)
    return masked_mean(recalls, (counts > 0).astype(outputs.dtype))


def accuracy(outputs: Array, y: Array, mask: Array) -> Array:
    """Fraction in ``[0, 1]`` of examples whose largest logit ``[n, ways]`` is the label's.

    Raises:
      ValueError: there is not one label ``[n]`` for each row of logits.

    >>> accuracy(jnp.eye(2), jnp.array([0, 0]), jnp.ones(2)).item()
    0.5
    """
    check_labeled(outputs, y)
    return masked_mean((jnp.argmax(outputs, axis=-1) == y).astype(outputs.dtype), mask)
