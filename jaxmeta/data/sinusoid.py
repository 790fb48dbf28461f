"""Sinusoid regression: the smallest meta-learning problem."""

import jax
import jax.numpy as jnp

from jaxmeta.data.sizes import check_without_classes, static_places
from jaxmeta.types import Array, Batch, Episode, Key, PyTree, Sampler, Source


def sinusoid() -> dict[str, Source]:
    r"""Regression onto sine waves, :math:`y = A \sin(x - \varphi)`, without noise.

    A task is one wave: :math:`A \sim U[0.1, 5]` and :math:`\varphi \sim U[0, \pi]`. Its inputs are
    :math:`x \sim U[-5, 5]`, drawn independently for support and query. There are no data: every
    task is generated from a key, and the three splits are the same distribution.

    ``source.episodes(ways, shots, queries, max_ways, max_shots)`` returns a sampler of episodes
    with x and y float32 ``[shots, 1]`` and ``[queries, 1]``. ``ways`` must be 1. With ``max_shots``
    the support set has that many places, ``shots`` may be a traced integer, and the places left
    over are padding: x 0, y 0, mask 0; the wave, the query set and the other examples stay the
    same.

    Returns:
      The sources ``train``, ``valid`` and ``test``.

    Raises:
      ValueError: from ``episodes``, when ``ways`` or ``max_ways`` is not 1, or ``shots`` or
        ``queries`` is not a positive integer.

    References:
      Finn, Abbeel and Levine, 2017, Model-Agnostic Meta-Learning, section 5.1; the sign of the
      phase follows their code.

    >>> import jax
    >>> source = sinusoid()["train"]
    >>> wave = source.episodes(ways=1, shots=5, queries=10)(source.data, jax.random.key(0))
    >>> wave.support.x.shape, wave.query.y.shape
    ((5, 1), (10, 1))
    """
    return dict.fromkeys(("train", "valid", "test"), Source((), _episodes))


def _episodes(
    ways: int,
    shots: int | Array,
    queries: int,
    max_ways: int | None = None,
    max_shots: int | None = None,
) -> Sampler:
    check_without_classes("sinusoid", ways, max_ways)
    places = static_places("shots", shots, max_shots)
    queries = static_places("queries", queries, None)

    def sample(data: PyTree, key: Key) -> Episode:
        del data
        wave_key, support_key, query_key = jax.random.split(key, 3)
        uniform = jax.random.uniform(wave_key, (2,), jnp.float32)
        amplitude, phase = 0.1 + 4.9 * uniform[0], jnp.pi * uniform[1]

        def points(key: Key, places: int, count: int | Array) -> Batch:
            index = jnp.arange(places, dtype=jnp.int32)
            # A key per point, so that the first few do not depend on how many places there are.
            keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
            x = jax.vmap(lambda k: jax.random.uniform(k, (1,), jnp.float32, -5, 5))(keys)
            mask = (index < jnp.asarray(count, jnp.int32)).astype(jnp.float32)
            y = amplitude * jnp.sin(x - phase)
            return Batch(x * mask[:, None], y * mask[:, None], mask)

        return Episode(points(support_key, places, shots), points(query_key, queries, queries))

    return sample
