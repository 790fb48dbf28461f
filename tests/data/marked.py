"""Images that tell which they are, so that a test knows what was drawn."""

import jax
import numpy as np

from jaxmeta.data import class_source
from jaxmeta.data.decode import rotated

COUNTS = np.array([5, 9, 6, 5, 7, 12])


def marked_source(counts=COUNTS, rotations=False):
    """Images that tell, in their first two pixels, their class and their number in it."""
    marks = [(c, i) for c, count in enumerate(counts) for i in range(count)]
    images = np.full((len(marks), 3, 3, 1), 100, np.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = np.transpose(marks)
    names = [f"class {c}" for c in range(len(counts))]
    return class_source(images, counts, names, **rotated(rotations))


def marks(x):
    """Class and number of every image ``[..., 3, 3, 1]``."""
    pixels = np.rint(np.asarray(x) * 255).astype(int)
    return pixels[..., 0, 0, 0], pixels[..., 0, 1, 0]


def draws(source, number, sampler):
    """So many tasks at once."""
    keys = jax.random.split(jax.random.key(0), number)
    tasks = jax.jit(jax.vmap(sampler, (None, 0)))(source.data, keys)
    return jax.tree.map(np.asarray, tasks)


def same(a, b):
    """Equal bit for bit."""
    leaves, others = jax.tree.leaves(a), jax.tree.leaves(b)
    return all(np.array_equal(x, y) for x, y in zip(leaves, others, strict=True))


def close(observed, probability, trials):
    """Counts that such a probability explains, to 4.5 standard deviations."""
    spread = np.sqrt(probability * (1 - probability) * trials)
    return np.all(np.abs(observed - probability * trials) <= 4.5 * spread)
