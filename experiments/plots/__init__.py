"""Pictures of runs: how they learned, what an episode looks like, views and features."""

from .attacks import attacks
from .curves import comparison, curve, learning
from .domains import adaptation, domains
from .episodes import episode
from .evenness import evenness
from .ladder import classes, imagined, ladder
from .layers import layers
from .multitask import multitask
from .optimizers import movements, optimizers
from .pretraining import features, reconstructions, views

__all__ = [
    "adaptation",
    "attacks",
    "classes",
    "comparison",
    "curve",
    "domains",
    "episode",
    "evenness",
    "features",
    "imagined",
    "ladder",
    "layers",
    "learning",
    "movements",
    "multitask",
    "optimizers",
    "reconstructions",
    "views",
]
