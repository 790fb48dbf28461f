"""What the outer loop minimizes: factories returning an Objective."""

from jaxmeta.objectives.added import added
from jaxmeta.objectives.along import along, evenly
from jaxmeta.objectives.augmented import augmented
from jaxmeta.objectives.averages import changes, running_average, running_average_of_tasks
from jaxmeta.objectives.blocked import blocked
from jaxmeta.objectives.booster import booster
from jaxmeta.objectives.episodic import episodic
from jaxmeta.objectives.evolution_strategies import evolution_strategies
from jaxmeta.objectives.multi_step import multi_step
from jaxmeta.objectives.on_part import on_part
from jaxmeta.objectives.reptile import reptile
from jaxmeta.objectives.trajectories import Trajectory, trajectories
from jaxmeta.objectives.two_views import two_views

__all__ = [
    "Trajectory",
    "added",
    "along",
    "augmented",
    "blocked",
    "booster",
    "changes",
    "episodic",
    "evenly",
    "evolution_strategies",
    "multi_step",
    "on_part",
    "reptile",
    "running_average",
    "running_average_of_tasks",
    "trajectories",
    "two_views",
]
