"""Probes and diagnostics of features."""

import math
from typing import Any

import numpy as np

from jaxmeta import diagnostics, probes
from jaxmeta.evaluate import summarize
from jaxmeta.types import Array

from .types import Parts

SHARE = 0.2
"""The share of a class that penalties are chosen on, and also that probes are judged on."""

FITS = {"ridge": probes.ridge_probe, "logistic": probes.logistic_probe}

PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)

TEMPERATURE = 0.07


def divided(y: np.ndarray, seed: int) -> Parts:
    """Divides the rows of each class into parts at random.

    Raises:
      ValueError: a class is too small.
    """
    random = np.random.RandomState(seed)
    pieces = []
    for label in np.unique(y):
        own = random.permutation(np.flatnonzero(y == label))
        if own.size < len(Parts._fields):
            raise ValueError(
                f"A class of the split has {own.size} images, which cannot be divided into "
                f"{len(Parts._fields)} parts: give data with more of each class."
            )
        few = max(round(SHARE * own.size), 1)
        pieces.append(np.split(own, [own.size - 2 * few, own.size - few]))
    return Parts(*(np.sort(np.concatenate(part)) for part in zip(*pieces, strict=True)))


def probed(z: np.ndarray, y: np.ndarray, parts: Parts, neighbors: int) -> dict[str, Any]:
    """The accuracy of simple classifiers on features ``[n, d]``, over the judged images."""
    fit, held_out, (queries, answers) = ((z[rows], y[rows]) for rows in parts)
    classes = int(y.max()) + 1
    found: dict[str, Any] = {}
    for name, probe in FITS.items():
        penalty = probes.best_penalty(probe, fit, held_out, classes, PENALTIES)
        labels = np.argmax(probe(*fit, classes, penalty)(queries), axis=1)
        found[name] = {
            "accuracy": summarized(labels == answers),
            "penalty": penalty,
            "penalties": list(PENALTIES),
        }
    labels = np.asarray(
        probes.nearest_neighbors(*fit, queries, classes, neighbors, temperature=TEMPERATURE)
    )
    found["nearest_neighbors"] = {
        "accuracy": summarized(labels == answers),
        "neighbors": neighbors,
        "temperature": TEMPERATURE,
    }
    return found


def diagnosed(z: Array) -> dict[str, Any]:
    """What features look like without labels."""
    # With few examples, the last ranks are estimated worst.
    last = max(min(z.shape) // 2, 2)
    alpha = diagnostics.alpha_req(z, 1, last).item() if min(z.shape) > 1 else math.inf
    return {
        "rankme": diagnostics.rankme(z).item(),
        "alpha_req": alpha if math.isfinite(alpha) else None,
        "alpha_req_ranks": [1, last],
        "spread": diagnostics.spread(z).item(),
    }


def summarized(values: np.ndarray) -> dict[str, float]:
    """The mean of some values and half the width of its 95% interval."""
    score = summarize(values)
    return {"mean": score.mean, "ci95": score.ci95}
