"""How one task is solved, one method per file: factories returning a Learner."""

from jaxmeta.learners.alfa import alfa
from jaxmeta.learners.anil import anil
from jaxmeta.learners.attacks import adversary, attacks, on_new_network, tuning
from jaxmeta.learners.calibrated import ClassStatistics, calibrated, class_statistics
from jaxmeta.learners.chosen import chosen
from jaxmeta.learners.embedded import embedded
from jaxmeta.learners.fine_tuning import fine_tuning
from jaxmeta.learners.fixed import fixed_classifier
from jaxmeta.learners.frames.comparison import Comparison, comparison_learner
from jaxmeta.learners.frames.gradient import gradient_learner
from jaxmeta.learners.frames.heads import Head, head_learner
from jaxmeta.learners.hallucinated import hallucinated
from jaxmeta.learners.imaml import imaml
from jaxmeta.learners.logistic_regression import logistic_regression
from jaxmeta.learners.lstm_meta_learner import lstm_meta_learner
from jaxmeta.learners.maml import maml
from jaxmeta.learners.maml_plus_plus import maml_plus_plus
from jaxmeta.learners.matching import matching
from jaxmeta.learners.meta_sgd import meta_sgd
from jaxmeta.learners.nearest_mean import nearest_mean
from jaxmeta.learners.proto_maml import proto_maml
from jaxmeta.learners.prototype_matching import prototype_matching
from jaxmeta.learners.prototypical import prototypical
from jaxmeta.learners.rejecting import rejecting
from jaxmeta.learners.relation import relation
from jaxmeta.learners.reptile import reptile
from jaxmeta.learners.ridge import ridge
from jaxmeta.learners.scratch import from_scratch
from jaxmeta.learners.siamese import siamese

__all__ = [
    "ClassStatistics",
    "Comparison",
    "Head",
    "adversary",
    "alfa",
    "anil",
    "attacks",
    "calibrated",
    "chosen",
    "class_statistics",
    "comparison_learner",
    "embedded",
    "fine_tuning",
    "fixed_classifier",
    "from_scratch",
    "gradient_learner",
    "hallucinated",
    "head_learner",
    "imaml",
    "logistic_regression",
    "lstm_meta_learner",
    "maml",
    "maml_plus_plus",
    "matching",
    "meta_sgd",
    "nearest_mean",
    "on_new_network",
    "proto_maml",
    "prototype_matching",
    "prototypical",
    "rejecting",
    "relation",
    "reptile",
    "ridge",
    "siamese",
    "tuning",
]
