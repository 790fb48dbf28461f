"""Quadratic functions: the smallest problem for learned optimizers."""

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.data.sizes import check_without_classes, static_places
from jaxmeta.types import Array, Batch, Episode, Key, PyTree, Sampler, Source


def quadratics(size: int = 10) -> dict[str, Source]:
    r"""Minimizing :math:`f(\theta) = \lVert W \theta - y \rVert^2` with random W and y.

    A task is one function: the entries of W, n by d, and of y are uniform on [0, 1). It is linear
    regression whose inputs are the rows of W, with :func:`jaxmeta.losses.sum_of_squares` as its
    loss; support and query set are the same. There are no data: every task is generated from a key,
    and the three splits are the same distribution.

    ``source.episodes(ways, shots, queries, max_ways, max_shots)`` returns a sampler of episodes
    with x float32 ``[shots, size]`` and y ``[shots, 1]``. ``ways`` must be 1, ``shots`` is n, and
    ``queries`` the same number.

    Args:
      size: d.

    Returns:
      The sources ``train``, ``valid`` and ``test``.

    Raises:
      ValueError: ``size`` is not a positive integer; or from ``episodes``, when ``ways`` or
        ``max_ways`` is not 1, a number is not a positive integer, or ``queries`` or ``max_shots``
        is not ``shots``.

    References:
      Andrychowicz et al., 2016, Learning to Learn by Gradient Descent by Gradient Descent, section
      3.1, as in their published code; the paper's W and y are normal.

    >>> import jax
    >>> source = quadratics()["train"]
    >>> task = source.episodes(ways=1, shots=10, queries=10)(source.data, jax.random.key(0))
    >>> task.support.x.shape, task.support.y.shape
    ((10, 10), (10, 1))
    """
    check_count("size", size, least=1)

    def episodes(
        ways: int,
        shots: int | Array,
        queries: int,
        max_ways: int | None = None,
        max_shots: int | None = None,
    ) -> Sampler:
        check_without_classes("quadratics", ways, max_ways)
        rows = static_places("shots", shots, None)
        if queries != rows or max_shots not in (None, rows):
            raise ValueError(
                f"shots is {rows}, queries {queries} and max_shots {max_shots}, but a quadratic is "
                "one function: give the same number for all."
            )

        def sample(data: PyTree, key: Key) -> Episode:
            del data
            drawn = jax.random.uniform(key, (rows, size + 1), jnp.float32)
            function = Batch(drawn[:, :-1], drawn[:, -1:], jnp.ones(rows, jnp.float32))
            return Episode(function, function)

        return sample

    return dict.fromkeys(("train", "valid", "test"), Source((), episodes))
