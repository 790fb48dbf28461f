"""Three small tasks of points, as a data set of configs."""

import numpy as np

from jaxmeta.data import task_source


def points():
    """Tasks of two classes, whose mean tells them apart."""
    random = np.random.default_rng(0)

    def source(each):
        x = random.normal(size=(6 * each, 3)) + np.repeat(np.arange(6) % 2, each)[:, None]
        return task_source(x, [[each, each]] * 3, ["ant", "bee", "cat"])

    return {"train": source(20), "valid": source(5), "test": source(7)}


def sized(sizes):
    """Such tasks with so many examples each for training."""
    random = np.random.default_rng(0)

    def source(each):
        counts = np.repeat(np.asarray(each) // 2, 2)
        labels = np.repeat(np.arange(counts.size) % 2, counts)
        x = random.normal(size=(labels.size, 3)) + 2 * labels[:, None]
        names = [str(i) for i in range(len(each))]
        return task_source(x, counts.reshape(-1, 2), names)

    return {"train": source(sizes), "valid": source([10] * 4), "test": source([14] * 4)}
