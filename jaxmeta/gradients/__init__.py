"""Estimators of the outer gradient, for any Objective."""

from jaxmeta.gradients.aligned_mtl import aligned_mtl
from jaxmeta.gradients.cagrad import cagrad
from jaxmeta.gradients.coefficients import by_coefficients
from jaxmeta.gradients.estimate import Gradient, estimate, fitting_chunk
from jaxmeta.gradients.estimator import Estimator, PerTask, Totals, reduce_reports, task_losses
from jaxmeta.gradients.imtl_g import imtl_g
from jaxmeta.gradients.mean import mean
from jaxmeta.gradients.mgda import mgda
from jaxmeta.gradients.nash_mtl import nash_mtl
from jaxmeta.gradients.pcgrad import pcgrad
from jaxmeta.gradients.weights import balanced, fixed_weights, random_weights
from jaxmeta.gradients.worst_case import worst_case

__all__ = [
    "Estimator",
    "Gradient",
    "PerTask",
    "Totals",
    "aligned_mtl",
    "balanced",
    "by_coefficients",
    "cagrad",
    "estimate",
    "fitting_chunk",
    "fixed_weights",
    "imtl_g",
    "mean",
    "mgda",
    "nash_mtl",
    "pcgrad",
    "random_weights",
    "reduce_reports",
    "task_losses",
    "worst_case",
]
