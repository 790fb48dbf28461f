"""Few-shot episodes from images sorted by class, as pure functions of ``(data, key)``.

An episode is made in two steps: :mod:`jaxmeta.data.choices` draws which images it has, never
looking at one, and :func:`finish` makes the episode of them. :func:`class_source` has all images on
the device and does both at once; :mod:`jaxmeta.data.streaming` reads them in between.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.data.choices import TURNS, Choice, Choose, ClassData, class_choices, class_data
from jaxmeta.types import Array, Batch, Episode, Key, Sampler, Source


def class_source(
    images: np.ndarray, counts: np.ndarray, names: Sequence[str], rotations: bool = False
) -> Source:
    """A source of N-way K-shot tasks: draw N classes, then K + Q different examples of each.

    Both draws are uniform without replacement. ``source.episodes(ways, shots, queries, max_ways,
    max_shots)`` returns a sampler of episodes with support ``[ways * shots, ...]`` and query
    ``[ways * queries, ...]``, ordered class by class: pixels float32 in ``[0, 1]``, labels int32 in
    ``[0, ways)`` in the order of drawing, masks float32. It samples under ``jit`` and ``vmap``.

    With ``max_ways`` or ``max_shots`` the shapes are those of the maxima, and ``ways`` and
    ``shots`` may be traced integers. What is left over is padding: pixels 0, label 0, mask 0. The
    rest is what the unpadded sampler draws with the same key. The query set does not depend on
    ``shots``.

    Tasks may be made less tidy, the shapes staying the same from task to task:

    - ``ways=(2, 10)`` or ``shots=(1, 5)``: each task draws its number, both ends included.
    - ``imbalanced=True``: each class of a task draws its number of shots.
    - ``unlabeled=3``: the support set has three further examples of each class with label -1.
    - ``distractors=2``: so it has of two further classes, which are none of the ways; they stand
      before those of the ways.

    ``source.examples(size)`` draws ordinary batches of labeled examples for training without
    episodes.

    Args:
      images: uint8 ``[n, height, width, channels]``, sorted by class.
      counts: integers ``[classes]``, how many images each class has; they sum to ``n``.
      names: what each class is called, for error messages.
      rotations: make four classes of each one, its images turned by 0, 90, 180 and 270 degrees
        (Santoro et al., "Meta-Learning with Memory-Augmented Neural Networks", 2016). Turn ``r`` of
        class ``c`` is class ``4 * c + r``.

    Raises:
      ValueError: the arrays do not fit together; from ``episodes``, when the data cannot fill such
        an episode.
    """
    counts = np.asarray(counts)
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(
            f"class_source got images {images.dtype}{list(images.shape)}; "
            "give uint8 [n, height, width, channels]."
        )
    if counts.sum() != len(images) or len(counts) != len(names):
        raise ValueError(
            f"class_source got {len(images)} images, counts that sum to {counts.sum()} over "
            f"{len(counts)} classes and {len(names)} names; give one count and one name per class."
        )
    refuse_oblong(images.shape[1:], rotations)
    data = class_data(jnp.asarray(images), counts)
    episodes, examples = class_choices(counts, names, rotations)

    def drawn(choose: Choose) -> Sampler:
        def sample(data: ClassData, key: Key) -> Episode:
            choice = choose(data, key)
            return finish(jnp.take(data.images, choice.rows, axis=0, mode="clip"), choice)

        return sample

    return Source(
        data,
        lambda *arguments, **options: drawn(episodes(*arguments, **options)),
        lambda size: drawn(examples(size)),
    )


def refuse_oblong(shape: Sequence[int], rotations: bool) -> None:
    """Raises ``ValueError`` where images ``[height, width, channels]`` would change shape."""
    if rotations and shape[0] != shape[1]:
        raise ValueError(
            f"Images of {shape[0]} x {shape[1]} pixels cannot be rotated; "
            "give square ones or rotations=False."
        )


def finish(images: Array, choice: Choice) -> Episode:
    """The episode of a choice, once its images are there: turned, scaled and masked.

    Args:
      images: uint8 ``[m, height, width, channels]``, that of each row; any for padding.
      choice: what was drawn.
    """
    if choice.quarters is not None:
        images = jax.vmap(_turn)(images, choice.quarters)

    def fill(blank: Batch, images: Array) -> Batch:
        # XLA turns a division into this product, and jit shall not change a bit.
        x = images.astype(jnp.float32) * np.float32(1 / 255)
        return blank._replace(x=x * jnp.expand_dims(blank.mask, range(1, x.ndim)))

    support, query = choice.blank
    return Episode(
        fill(support, images[: support.mask.size]), fill(query, images[-query.mask.size :])
    )


def _turn(image: Array, quarters: Array) -> Array:
    """Turns ``[s, s, channels]`` counter-clockwise, as ``jnp.rot90``, by ``quarters`` in 0..3."""
    return jnp.select(
        [quarters == r for r in range(TURNS)], [jnp.rot90(image, r) for r in range(TURNS)]
    )
