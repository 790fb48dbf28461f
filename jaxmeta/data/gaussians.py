"""Classes that are normal distributions: the smallest world in which the best answer is known."""

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count, check_positive
from jaxmeta.data.sizes import static_places
from jaxmeta.types import Array, Batch, Episode, Key, PyTree, Sampler, Source


def gaussians(size: int = 20, spread: float = 1.0) -> dict[str, Source]:
    r"""Classes with means :math:`\mu \sim N(0, I)`, and examples :math:`x \sim N(\mu, s^2 I)`.

    Given n examples of each class with the mean :math:`\bar x`, a query is of the class whose
    *shrunk* mean :math:`\bar x / (1 + s^2 / n)` is nearest. There are no data: every task is
    generated from a key, and the three splits are the same distribution.

    ``source.episodes(ways, shots, queries, max_ways, max_shots)`` returns a sampler of episodes
    ordered class by class, as in :func:`jaxmeta.data.class_source`.

    Args:
      size: of an example.
      spread: s.

    Returns:
      The sources ``train``, ``valid`` and ``test``.

    Raises:
      ValueError: ``size`` is not a positive integer or ``spread`` is not positive; or from
        ``episodes``, when a number is not positive, or above its maximum.

    >>> source = gaussians()["train"]
    >>> task = source.episodes(ways=5, shots=1, queries=3)(source.data, jax.random.key(0))
    >>> task.support.x.shape, task.query.y[:4].tolist()
    ((5, 20), [0, 0, 0, 1])
    """
    check_count("size", size, least=1)
    check_positive("spread", spread)

    def episodes(
        ways: int | Array,
        shots: int | Array,
        queries: int,
        max_ways: int | None = None,
        max_shots: int | None = None,
    ) -> Sampler:
        classes = static_places("ways", ways, max_ways)
        places = static_places("shots", shots, max_shots)
        queries = static_places("queries", queries, None)

        def sample(data: PyTree, key: Key) -> Episode:
            del data
            mean_key, support_key, query_key = jax.random.split(key, 3)
            means = _normal(mean_key, classes, size)

            def examples(key: Key, each: int, count: int | Array) -> Batch:
                y = jnp.repeat(jnp.arange(classes, dtype=jnp.int32), each)
                index = jnp.tile(jnp.arange(each, dtype=jnp.int32), classes)
                keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(classes))
                noise = jax.vmap(lambda own: _normal(own, each, size))(keys)
                shown = (y < jnp.asarray(ways)) & (index < jnp.asarray(count))
                mask = shown.astype(jnp.float32)
                x = (means[:, None] + jnp.float32(spread) * noise).reshape(-1, size)
                return Batch(x * mask[:, None], y * shown.astype(jnp.int32), mask)

            return Episode(
                examples(support_key, places, shots), examples(query_key, queries, queries)
            )

        return sample

    return dict.fromkeys(("train", "valid", "test"), Source((), episodes))


def _normal(key: Key, rows: int, size: int) -> Array:
    """Rows of a key each, so that the first few do not depend on how many there are."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(rows))
    return jax.vmap(lambda own: jax.random.normal(own, (size,), jnp.float32))(keys)
