"""jaxmeta: functional meta-learning in JAX.

A :class:`~jaxmeta.types.Learner` says how one task is solved, an Objective what the outer loop
minimizes, and :func:`jaxmeta.objectives.episodic` turns the first into the second.
"""

from jaxmeta.types import Batch, Carried, Episode, Learner, Model, Objective, Report, Source

__all__ = ["Batch", "Carried", "Episode", "Learner", "Model", "Objective", "Report", "Source"]
