"""A small experiment on images that are read ahead of their steps, or with ``streamed=False`` not.

The images are drawn; ``broken`` is the number of one that cannot be read.
"""

import numpy as np
from ml_collections import ConfigDict

from jaxmeta.data import class_source, streamed_source
from jaxmeta.types import Source
from tests.experiments import dots

CLASSES, EACH, SIZE = 6, 12, 8


class Records:
    """Images that a disk might hold."""

    def __init__(self, seed: int, broken: int | None):
        shape = (CLASSES * EACH, SIZE, SIZE, 1)
        self.images = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
        self.broken = broken

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> np.ndarray:
        if number == self.broken:
            raise OSError("bad sector")
        pixels: np.ndarray = self.images[number]
        return pixels


def sources(streamed: bool, broken: int | None = None) -> dict[str, Source]:
    names = [f"class {i}" for i in range(CLASSES)]

    def of(seed: int) -> Source:
        # Only what is trained on is broken.
        records = Records(seed, broken if seed == 0 else None)
        numbers = np.arange(CLASSES * EACH).reshape(CLASSES, EACH)
        if streamed:
            return streamed_source(records, dict(zip(names, numbers, strict=True)))
        return class_source(records.images, np.full(CLASSES, EACH), names)

    return {"train": of(0), "valid": of(1), "test": of(2)}


def get_config() -> ConfigDict:
    config = dots.get_config("prototypical")
    config.meta_batch = 5
    config.steps = 12
    config.log_every = 2
    config.evaluation.every = 4
    config.data = ConfigDict({"make": "tests.experiments.streamed.sources", "streamed": True})
    return config
