"""The inner loop: how parameters adapt to one task's support set, differentiably.

``unroll`` takes steps of an optax transformation and is differentiated through; what the outer loop
may learn *about* adapting (step sizes, the weights of a learned optimizer) is its ``hyper``.
``implicit`` differentiates a minimum instead, and ``minimize`` treats it as a constant. A loop of
your own consists of the same plain functions: ``init``, ``run`` and, if it has one, ``path``.
"""

from jaxmeta.inner.coordinate_gates import coordinate_gates
from jaxmeta.inner.drawn_rate import drawn_rate
from jaxmeta.inner.gated import Chosen, Gates, gated
from jaxmeta.inner.implicit import implicit
from jaxmeta.inner.layer_gates import layer_gates
from jaxmeta.inner.leaves import check_differentiable, merge, partition, path_name, within
from jaxmeta.inner.loop import InnerLoop, InnerLoss, LearnedOptimizer, Run
from jaxmeta.inner.minimize import minimize
from jaxmeta.inner.mixed_mode import mixed_mode
from jaxmeta.inner.moments import factored_moments, momenta
from jaxmeta.inner.part_rates import with_rates
from jaxmeta.inner.per_parameter import Features, per_parameter
from jaxmeta.inner.randomly_scaled import randomly_scaled
from jaxmeta.inner.rates import PerStep, learning_rates, per_step, sgd
from jaxmeta.inner.recurrent import coordinatewise_lstm
from jaxmeta.inner.stages import then
from jaxmeta.inner.unroll import unroll

__all__ = [
    "Chosen",
    "Features",
    "Gates",
    "InnerLoop",
    "InnerLoss",
    "LearnedOptimizer",
    "PerStep",
    "Run",
    "check_differentiable",
    "coordinate_gates",
    "coordinatewise_lstm",
    "drawn_rate",
    "factored_moments",
    "gated",
    "implicit",
    "layer_gates",
    "learning_rates",
    "merge",
    "minimize",
    "mixed_mode",
    "momenta",
    "partition",
    "path_name",
    "per_parameter",
    "per_step",
    "randomly_scaled",
    "sgd",
    "then",
    "unroll",
    "with_rates",
    "within",
]
