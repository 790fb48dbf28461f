"""A weighted sum of operations, whose weights are learned: a search for a network's parts."""

import jax
import jax.numpy as jnp

from jaxmeta.nn.adapters import from_functions
from jaxmeta.nn.assembled import Use, assembled
from jaxmeta.nn.layers import max_pool
from jaxmeta.types import Array, Model, PyTree

WEIGHTS = "mix"


def mixture(**operations: Model) -> Model:
    r"""The weighted sum of several operations on the same inputs.

    .. math:: f(x) = \sum_o \frac{e^{\alpha_o}}{\sum_{o'} e^{\alpha_{o'}}}\, f_o(x)

    The weights :math:`\alpha` start at zero. Learned on other data than the operations are, they
    say which operation is worth keeping (DARTS): the one of the largest.

    Args:
      **operations: models by name, whose outputs have one shape.

    Returns:
      A model whose parameters are those of the operations by name, and ``"mix"``, the weights in
      the order of the names.

    Raises:
      ValueError: there is no operation, one is named ``"mix"`` or, from ``init``, their outputs
        differ in shape.

    References:
      Liu, Simonyan and Yang, 2019, DARTS: Differentiable Architecture Search, equation 2.

    >>> from jaxmeta.nn import mlp
    >>> model = mixture(linear=mlp(4, hidden=()), deep=mlp(4))
    >>> params, state = model.init(jax.random.key(0), jnp.ones((3, 5)))
    >>> params["mix"].tolist(), model.apply(params, state, jnp.ones((3, 5)))[0].shape
    ([0.0, 0.0], (3, 4))
    """
    if not operations or WEIGHTS in operations:
        raise ValueError(
            f"mixture got the operations {', '.join(operations) or 'of none'}: give at least one, "
            f"and none called '{WEIGHTS}'."
        )

    # By name, so that weights do not depend on how the call was written.
    names = sorted(operations)
    weights = from_functions(
        lambda key, x: jnp.zeros(len(names), jnp.float32), lambda params, x: params
    )

    def forward(use: Use, x: PyTree) -> Array:
        shares = jax.nn.softmax(use(WEIGHTS, weights, x))
        outputs = {name: use(name, operations[name], x) for name in names}
        shapes = {name: each.shape for name, each in outputs.items()}
        if len(set(shapes.values())) > 1:
            raise ValueError(
                f"The outputs of the operations have shapes {shapes}: give operations whose "
                "outputs have one shape."
            )
        parts = [
            share.astype(outputs[name].dtype) * outputs[name]
            for name, share in zip(names, shares, strict=True)
        ]
        return sum(parts[1:], start=parts[0])

    return assembled(forward)


def outside_mixtures(name: str) -> bool:
    """Whether a parameter, by its name, is not the weights of a :func:`mixture`.

    To adapt the operations and not their weights: ``gradient_learner(fast=outside_mixtures)``.

    >>> outside_mixtures("block0/conv/kernel"), outside_mixtures("block0/mix")
    (True, False)
    """
    return name.rpartition("/")[2] != WEIGHTS


def pooling() -> Model:
    """The largest of each 2x2 window of maps, as a model without parameters.

    >>> images = jnp.ones((3, 8, 8, 2))
    >>> pooling().apply(*pooling().init(jax.random.key(0), images), images)[0].shape
    (3, 4, 4, 2)
    """
    return from_functions(lambda key, x: {}, lambda params, x: max_pool(x))
