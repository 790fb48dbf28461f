"""Normal inputs with the labels of hyperplanes: a small world of useful and harmful uses."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.checks import check_count
from jaxmeta.data.harmful import beside_harmful
from jaxmeta.data.sizes import static_places
from jaxmeta.types import Array, Batch, Episode, Key, PyTree, Sampler, Source

DESIRED, HARMFUL, BENIGN = 0, 1, 2
HELD_OUT = 4_000


def linear_labels(size: int = 25) -> dict[str, Source]:
    r"""Inputs :math:`x \sim N(0, I)` with three binary labels :math:`[w_i^\top x > 0]` as one.

    The directions are orthogonal, so the labels are independent and the eight classes, one for each
    combination, are alike. For pretraining a model that knows all three labels; see
    :func:`harmful_labels`. There are no data: everything is generated from a key.

    Args:
      size: of an input, 3 or more.

    Returns:
      The sources ``train``, ``valid`` and ``test``, without episodes.

    Raises:
      ValueError: ``size`` is less than 3.

    >>> source = linear_labels()["train"]
    >>> source.batches(4)(source.data, jax.random.key(0)).x.shape, source.classes
    ((4, 25), 8)
    """
    check_count("size", size, least=3)

    def label(x: Array) -> Array:
        bits = (x @ _directions(size).T > 0).astype(jnp.int32)
        return bits @ jnp.array([4, 2, 1], jnp.int32)

    splits = ("train", "valid", "test")
    return {split: _batches(size, label, 8, place) for place, split in enumerate(splits)}


def harmful_labels(size: int = 25, shots: int = 20, queries: int = 20) -> dict[str, Source]:
    r"""One label of :func:`linear_labels` as the desired task, another as harmful, one as benign.

    Args:
      size: of an input, 3 or more.
      shots: support examples of each of the two classes in the episodes that a defender sees.
      queries: their queries of each class.

    Returns:
      Sources by the names of :func:`jaxmeta.data.harmful_classes`. All inputs are new, so the two
      halves of harmful and benign episodes are the same distributions.

    Raises:
      ValueError: ``size`` is less than 3, or another number not positive.

    References:
      Henderson et al., 2023, Self-Destructing Models: Increasing the Costs of Harmful Dual Uses of
      Foundation Models, whose two directions are random.

    >>> data = harmful_labels()
    >>> source = data["harmful"]
    >>> task = source.episodes(ways=2, shots=1, queries=3)(source.data, jax.random.key(0))
    >>> task.query.x.shape, task.query.y.tolist()
    ((6, 25), [0, 0, 0, 1, 1, 1])
    """
    check_count("size", size, least=3)

    def label(x: Array) -> Array:
        return (x @ _directions(size)[DESIRED] > 0).astype(jnp.int32)

    train, valid, test = (_batches(size, label, 2, place) for place in range(3))
    harmful, benign = (Source((), _episodes(size, which)) for which in (HARMFUL, BENIGN))
    return {
        "train": beside_harmful(train, harmful, 2, shots, queries),
        "valid": valid,
        "test": test,
        "harmful": harmful,
        "harmful_choosing": harmful,
        "benign": benign,
        "benign_choosing": benign,
    }


def _directions(size: int) -> Array:
    """Three orthogonal unit vectors ``[3, size]``, always the same."""
    random = np.random.RandomState(0).normal(size=(size, 3))
    return jnp.asarray(np.linalg.qr(random)[0].T, jnp.float32)


def _batches(size: int, label: Callable[[Array], Array], classes: int, place: int) -> Source:
    def batches(count: int) -> Sampler:
        check_count("size", count, least=1)

        def draw(data: PyTree, key: Key) -> Batch:
            x = jax.random.normal(key, (count, size), jnp.float32)
            return Batch(x, label(x), jnp.ones(count, jnp.float32))

        return draw

    def whole(data: PyTree, key: Key) -> Batch:
        return batches(HELD_OUT)(data, jax.random.key(place))

    def episodes(*given: int, **options: int) -> Sampler:
        raise ValueError("Linear labels have no episodes: train on batches.")

    return Source((), episodes, batches, classes=classes, whole=whole)


def _episodes(size: int, which: int) -> Callable[..., Sampler]:
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
        if classes != 2:
            raise ValueError(f"ways is {classes}, but a linear label has two classes: give 2.")

        def sample(data: PyTree, key: Key) -> Episode:
            direction = _directions(size)[which]

            def examples(key: Key, each: int, count: int | Array) -> Batch:
                y = jnp.repeat(jnp.arange(2, dtype=jnp.int32), each)
                index = jnp.tile(jnp.arange(each, dtype=jnp.int32), 2)
                x = jax.random.normal(key, (2 * each, size), jnp.float32)
                # x and -x are equally likely, and have opposite labels.
                right = (x @ direction > 0).astype(jnp.int32) == y
                x = jnp.where(right[:, None], x, -x)
                mask = ((y < jnp.asarray(ways)) & (index < jnp.asarray(count))).astype(jnp.float32)
                return Batch(x * mask[:, None], y, mask)

            support_key, query_key = jax.random.split(key)
            return Episode(
                examples(support_key, places, shots), examples(query_key, queries, queries)
            )

        return sample

    return episodes
