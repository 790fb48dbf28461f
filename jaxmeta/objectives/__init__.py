"""What the outer loop minimises: factories returning an Objective."""

from jaxmeta.objectives.episodic import episodic

__all__ = ["episodic"]
