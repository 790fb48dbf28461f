"""The inner loop: how parameters adapt to one task's support set, differentiably.

``unroll`` takes steps of any optax transformation, to be differentiated through; what the outer
loop may learn *about* adapting (step sizes, a learned optimizer's weights) is its ``hyper``.
``implicit`` differentiates a minimum instead, and ``minimize`` nothing. A loop of your own is the
same pair of plain functions.
"""

from jaxmeta.inner.implicit import implicit
from jaxmeta.inner.leaves import check_differentiable, merge, partition, path_name
from jaxmeta.inner.loop import InnerLoop, InnerLoss, Run
from jaxmeta.inner.minimize import minimize
from jaxmeta.inner.mixed_mode import mixed_mode
from jaxmeta.inner.rates import PerStep, learning_rates, per_step, sgd
from jaxmeta.inner.unroll import unroll

__all__ = [
    "InnerLoop",
    "InnerLoss",
    "PerStep",
    "Run",
    "check_differentiable",
    "implicit",
    "learning_rates",
    "merge",
    "minimize",
    "mixed_mode",
    "partition",
    "path_name",
    "per_step",
    "sgd",
    "unroll",
]
