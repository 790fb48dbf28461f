"""How well simple classifiers do on features: nearest neighbors and linear probes.

Here labels evaluate what was learned without them. :func:`features` computes a model's features; a
probe is fitted to those of one part of the data and evaluated on those of another. Whatever is
chosen, such as a penalty, is chosen on a third part; see :func:`best_penalty`.
"""

from jaxmeta.probes.features import all_examples, features, statistics
from jaxmeta.probes.linear import LinearProbe, best_penalty, logistic_probe, ridge_probe
from jaxmeta.probes.neighbors import nearest_neighbors

__all__ = [
    "LinearProbe",
    "all_examples",
    "best_penalty",
    "features",
    "logistic_probe",
    "nearest_neighbors",
    "ridge_probe",
    "statistics",
]
