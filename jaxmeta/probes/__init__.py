"""How much a simple classifier finds in features: nearest neighbors and linear probes.

Labels judge here what was learned without them. :func:`features` makes arrays of a model, and a
probe is fitted to those of one part of the data and judged on those of another. Whatever is chosen,
such as a penalty, is chosen on a third part; see :func:`best_penalty`.
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
