"""Estimators of the outer gradient, for any Objective."""

from jaxmeta.gradients.estimate import Gradient, estimate, fitting_chunk
from jaxmeta.gradients.estimator import Estimator, PerTask, Totals, reduce_reports, task_losses
from jaxmeta.gradients.mean import mean
from jaxmeta.gradients.surgery import by_coefficients, cagrad, pcgrad, worst_case

__all__ = [
    "Estimator",
    "Gradient",
    "PerTask",
    "Totals",
    "by_coefficients",
    "cagrad",
    "estimate",
    "fitting_chunk",
    "mean",
    "pcgrad",
    "reduce_reports",
    "task_losses",
    "worst_case",
]
