"""Objectives that train an embedding before it is used for few-shot tasks."""

from jaxmeta.pretraining.supervised import supervised

__all__ = ["supervised"]
