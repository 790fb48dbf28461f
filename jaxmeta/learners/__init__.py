"""How one task is solved: one method per file, each a factory returning a Learner."""

from jaxmeta.learners.gradient import gradient_learner, maml
from jaxmeta.learners.prototypical import prototypical
from jaxmeta.learners.scratch import from_scratch

__all__ = ["from_scratch", "gradient_learner", "maml", "prototypical"]
