"""A picture of an episode, whatever its inputs are."""

from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.plots import drawing, episodes
from jaxmeta.data import make_episode
from jaxmeta.types import Episode

RANDOM = np.random.default_rng(0)


def classes(*shape: int, shots: tuple[int, ...] = (1, 1, 1)) -> Episode:
    labels = np.repeat([0, 1, 2], shots)
    x = RANDOM.uniform(size=(len(labels), *shape))
    return make_episode(x, labels, RANDOM.uniform(size=(6, *shape)), [0, 0, 1, 1, 2, 2])


def numbers(*shape: int, outputs: int = 1) -> Episode:
    x, y = RANDOM.uniform(size=(4, *shape)), RANDOM.uniform(size=(4, outputs))
    return make_episode(x, y, x, y)


def tokens() -> Episode:
    x = {"words": np.zeros((3, 5), np.int32), "lengths": np.ones(3, np.int32)}
    return make_episode(x, [0, 1, 2], x, [0, 1, 2])


PICTURES = {
    "images": (classes(4, 4, 1), 3, episodes._images),
    "colors": (classes(4, 4, 3), 3, episodes._images),
    "uneven": (classes(4, 4, 1, shots=(1, 3, 2)), 3, episodes._images),
    "vectors": (classes(4), 3, episodes._confusion),
    "channels": (classes(4, 4, 2), 3, episodes._confusion),
    "more outputs than classes": (classes(4), 5, episodes._confusion),
    "tokens": (tokens(), 3, episodes._confusion),
    "waves": (numbers(1), 1, episodes._curve),
    "planes": (numbers(2), 1, episodes._scatter),
    "many targets": (numbers(1, outputs=3), 3, episodes._scatter),
    "other outputs": (numbers(1), 2, None),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_of(name: str, tmp_path: Path) -> None:
    task, outputs, expected = PICTURES[name]
    answers = jnp.asarray(RANDOM.uniform(size=(len(task.query.y), outputs)), jnp.float32)
    draw: Callable | None = episodes.drawing_of(task, answers)
    assert draw is expected
    if draw is not None:
        drawing.save(draw(task, np.asarray(answers)), tmp_path / "episode.png")
        assert (tmp_path / "episode.png").stat().st_size


def test_the_table_counts_labels_against_predictions() -> None:
    task = classes(4)
    answers = np.eye(3, dtype=np.float32)[[0, 0, 2, 2, 1, 2]]
    figure = episodes._confusion(task, answers)
    texts = [int(text.get_text()) for text in figure.axes[0].texts]
    assert texts == [2, 0, 0, 0, 0, 2, 0, 1, 1]
    drawing.plt.close(figure)
