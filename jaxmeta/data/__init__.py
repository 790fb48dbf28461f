"""Sources of tasks: episodes as pure functions of ``(data, key)``."""

from jaxmeta.data.episodes import class_source, make_batch, make_episode

__all__ = ["class_source", "make_batch", "make_episode"]
